# What to type, in one place. CI and people run the same targets.

# What people and CI set, in the environment or on make's command line, is for the shell alone to expand, between quotes:
# make would run `$(shell …)` in it. So recipes say $$NAME, never $(NAME).
# The Python that makes .venv; 3.11 or newer.
PYTHON_PROGRAM := "$${PYTHON:-python3}"
# The image has the environment elsewhere, and says so.
BIN := "$${VENV:-.venv}/bin"

.PHONY: help install new upgrade data propose results repro summary experiments index report diff review reproduce seeds look correct claim export serve serve-image promote deploy notebook converge lint secrets test check units lock audit image publish shell jupyter ssh hooks
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf 'make %-11s %s\n' "$$target" "$$text"; done

install: ## .venv with exactly the packages of requirements.lock
	@test "$${VENV:-.venv}" != .venv || $(PYTHON_PROGRAM) scripts/install.py

new: install ## begin a project of your own, NAME=…, in this clone or in a new folder, TO=…; SAMPLE=keep keeps the sample
	@$(BIN)/python -m scripts.new $${TO:+--to="$$TO"} $${SAMPLE:+--sample="$$SAMPLE"} -- "$$NAME"

upgrade: install ## merge the scaffold's later version, or TO=…, from upstream; what is the project's own stays
	@$(BIN)/python -m scripts.upgrade $${TO:+-- "$$TO"}

data: install ## data/ in the version that data.dvc names
	@$(BIN)/python -m scripts.get_data

propose: install ## look at data/ and propose params.yaml for it (WRITE=1 writes it)
	@$(BIN)/python -m scripts.propose $${WRITE:+--write}

results: data ## download the committed weights and predictions, if somebody pushed them
	@$(BIN)/python -m scripts.get_results

repro: data results ## train and evaluate: run the stages of dvc.yaml that are out of date
	@$(BIN)/python -m stages.params
	@$(BIN)/python -m scripts.repro
	@$(BIN)/python -m review summary
	@$(BIN)/python -m review report

summary: install ## the result in the workspace, and whether it is identical to the committed one
	@$(BIN)/python -m review summary

report: install ## the result in the workspace on a page for a browser, reports/report.html
	@$(BIN)/python -m review report

experiments: install ## a table of this clone's experiments, best val accuracy first: changed params, val figures, seconds
	@$(BIN)/python -m review experiments

index: install ## all tags and experiments of this clone on a page for a browser, reports/index.html: sort, filter, reports
	@$(BIN)/python -m review index

diff: install ## compare with BASE (default: the commit where the branch left main), and test significance
	@$(BIN)/python -m review diff $${BASE:+-- "$$BASE"}

review: install ## the same as review.md and review.html, and the gate (ALLOW='KIND=REASON' permits an exception)
	@$(BIN)/python -m review diff --gate --html review.html --markdown review.md $${ALLOW:+--allow="$$ALLOW"} $${BASE:+-- "$$BASE"}

reproduce: install ## run REV (default: HEAD) again and judge its claim, as reproduce.md, too; MINUTES=… stops the run then
	@$(BIN)/python -m review reproduce --markdown reproduce.md $${MINUTES:+--at-most="$$MINUTES"} $${ALLOW:+--allow="$$ALLOW"} -- "$${REV:-HEAD}"

seeds: install ## run the workspace's experiment with N seeds (default: 5), JOBS at a time
	@$(BIN)/python -m review seeds --jobs="$${JOBS:-1}" -- "$${N:-5}"

look: install ## which labels look wrong, which images do not belong, what to collect: reports/data.html; UNLABELLED=… orders a folder
	@$(BIN)/python -m stages.look $${WEIGHTS:+--weights="$$WEIGHTS"} $${UNLABELLED:+--unlabelled="$$UNLABELLED"}
	@$(BIN)/python -m review data
	@test -z "$$UNLABELLED" || $(BIN)/python -m review data --unlabelled="$$UNLABELLED"

correct: install ## merge FROM=…, what the page of the data has saved, into corrections.csv (SPLIT=train: of these images alone)
	@$(BIN)/python -m scripts.correct $${SPLIT:+--split="$$SPLIT"} -- "$$FROM"

claim: data results ## measure the committed model on the test split, once it is chosen: writes claim/
	@$(BIN)/python -m scripts.claim

export: data results ## write the committed model as ONNX, and prove that its answers are the same: models/model.onnx
	@$(BIN)/python -m scripts.export

serve: install ## answer HTTP requests with models/model.onnx, on port 8000 of this machine (docs/serve.md has the settings)
	@$(BIN)/python -m serve

serve-image: install ## build the service with the model of TAG=… as the image classifier:<tag>; REGISTRY=… pushes it
	@$(BIN)/python -m scripts.serve_image --registry="$$REGISTRY" -- "$$TAG"

promote: install ## say which version of the model is at which stage; VERSION=v1.2.0 STAGE=prod puts one there, by a tag
	@$(BIN)/python -m scripts.promote $${STAGE:+--stage="$$STAGE"} $${VERSION:+-- "$$VERSION"}

deploy: install ## write the image that TAG (classifier#prod#3) asks for, from REGISTRY, into deploy/, for a change request
	@$(BIN)/python -m scripts.deploy --registry="$$REGISTRY" -- "$$TAG"

notebook: install ## JupyterLab on this machine, its packages added to .venv; `make jupyter` is the same in the image
	@test "$${VENV:-.venv}" != .venv || $(PYTHON_PROGRAM) scripts/install.py notebook
	@$(BIN)/jupyter lab notebooks

converge: install ## train on the sample; fails if training does not converge
	@$(BIN)/python -m scripts.converge

lint: secrets ## ruff, mypy, secrets, and checks of .dvc/config, shell scripts, Dockerfile, CI and cluster files
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m storage.config
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/zizmor --offline --quiet .github
	@$(BIN)/hadolint Dockerfile serve/Dockerfile
	@$(BIN)/shellcheck --severity warning docker/entrypoint.sh cluster/slurm.sh .ci/run
	@$(BIN)/kubernetes-validate --quiet --strict cluster/kubernetes.yaml cluster/serve.yaml cluster/serve-two.yaml
	@for file in deploy/*/*.yaml; do [ ! -e "$$file" ] || $(BIN)/kubernetes-validate --quiet --strict "$$file" || exit; done

secrets: install ## fails if there are keys, tokens or passwords in files for Git, or in commits since BASE (default: main)
	@$(BIN)/python -m scripts.find_secrets $${BASE:+--since "$$BASE"}

test: lint ## lint, then all tests
	@$(BIN)/python -m pytest

check: install ## lint and units in parallel, in about a minute
	@$(MAKE) --no-print-directory --jobs=2 --output-sync lint units

units: install ## the tests of stages/, storage/, review/ and scripts/ that need no clone of the project
	@$(BIN)/python -m pytest tests/stages tests/storage tests/review tests/scripts -m 'not clone and not image and not slow'

lock: install ## rewrite requirements.lock from the pins in pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		--group prepare --group train --group evaluate --group export --group serve --group look --group workflow --group dev \
		--output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		--group jupyter --constraint requirements.lock --output-file requirements-jupyter.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		--group serve --constraint requirements.lock --output-file requirements-serve.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		--group audit --output-file requirements-audit.lock

audit: install ## known vulnerabilities of all locked packages, by the package index; fails if one cannot be asked for
	@folder=$$(mktemp -d) && trap 'rm -r "$$folder"' EXIT \
		&& $(BIN)/uv venv --quiet "$$folder" \
		&& $(BIN)/uv pip sync --quiet --python "$$folder" --require-hashes requirements-audit.lock \
		&& "$$folder/bin/pip-audit" --strict --progress-spinner off --disable-pip --require-hashes \
			--requirement requirements.lock --requirement requirements-jupyter.lock

# The image needs no .venv on the host, so a clone, docker and Python are enough for the next five.
image: ## build the environment as an image, unless it exists
	@$(PYTHON_PROGRAM) -m scripts.image build

publish: ## push all three images to REGISTRY (such as registry.example.org/team/); never overwrites
	@$(PYTHON_PROGRAM) -m scripts.image push --registry="$$REGISTRY"

shell: ## a shell in the image, with the project mounted
	@$(PYTHON_PROGRAM) -m scripts.image shell

jupyter: ## JupyterLab in the image, on port 8888
	@$(PYTHON_PROGRAM) -m scripts.image jupyter

ssh: ## sshd in the image, on port 2222
	@$(PYTHON_PROGRAM) -m scripts.image ssh

hooks: install ## install git hooks that check each commit (.pre-commit-config.yaml)
	@$(BIN)/pre-commit install
