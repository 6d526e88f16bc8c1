"""`python -m review tag`: a release says what was reached, and is refused where that is not complete."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.project import BIN, edit_params, refusal, run

TAG: list[str | Path] = [BIN / "python", "-m", "review", "tag"]


def test_a_release_is_checked_on_a_colleagues_clone(copy_reproduced: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_reproduced("release")
    assert "nobody else can get data and weights" in refusal(run([*TAG, "v1.0-digits"], folder, expect=1))
    (tmp_path / "storage").mkdir()
    run([BIN / "dvc", "remote", "modify", "local", "url", tmp_path / "storage"], folder)
    run("git commit --quiet --all --message storage", folder)
    message = refusal(run([*TAG, "v1.0-digits", "--local"], folder, expect=1))
    assert re.search(r"test accuracy: not claimed in HEAD .*`make claim` measures it", message)
    run("make claim && git add . && git commit --quiet --message claim", folder)
    message = refusal(run([*TAG, "v1.0-digits"], folder, expect=1))
    assert "models/model.safetensors: not in the remote; `dvc push` sends it" in message
    run([BIN / "dvc", "push"], folder)
    metrics = json.loads((folder / "metrics/evaluate.json").read_text())
    said = run([*TAG, "v1.0-digits"], folder).stdout
    claimed = json.loads((folder / "claim/test.json").read_text())
    assert f"v1.0-digits: test accuracy {100 * claimed['accuracy']:.2f} % (" in said
    assert f"the only run on these images that is known, with val accuracy {100 * metrics['accuracy']:.2f} % (" in said
    assert "model=simplenet" in said
    assert run("git cat-file -t v1.0-digits", folder).stdout == "tag\n"
    message = run("git tag --list --format '%(contents)' v1.0-digits", folder).stdout
    facts = json.loads(message.split("\n", 2)[2])
    assert (facts["metrics"], facts["claim"]) == (metrics, claimed)
    assert facts["commit"] == run("git rev-parse HEAD", folder).stdout.strip()
    assert facts["data"] == {"data": yaml.safe_load((folder / "data.dvc").read_text())["outs"][0]["md5"]}
    assert len(facts["outputs"]) == 19
    assert facts["params"]["lr"] == 0.1
    run(["git", "clone", "--quiet", folder, tmp_path / "colleague"], tmp_path)
    record = tmp_path / "colleague/claim/chosen.json"
    record.write_text(record.read_text().replace('"runs": 1', '"runs": 8'))
    text = run([BIN / "python", "-m", "review", "diff", "HEAD", "--offline"], tmp_path / "colleague").stdout
    assert "The model that head claims is the best of 8 runs on these images that are known, 1 of them known in" in text
    run("git checkout --quiet claim", tmp_path / "colleague")
    done = run([BIN / "python", "-m", "review", "reproduce", "v1.0-digits"], tmp_path / "colleague")
    assert done.stdout.startswith("v1.0-digits (")
    assert "identical. 19 of 19 outputs" in done.stdout
    # Somebody's tag with better figures, which the index of tags and a person would take for the commit's.
    facts_forged = message.replace(f'"accuracy": {claimed["accuracy"]}', '"accuracy": 0.9999')
    line_forged = re.sub(r"accuracy \S+ %", "accuracy 99.99 %", message)
    for name, forged in (("v2", facts_forged), ("v3", line_forged)):
        run(["git", "tag", "--annotate", "--cleanup=verbatim", "--message", forged, name], folder)
    done = run([BIN / "python", "-m", "review", "reproduce", "v2"], folder, expect=1)
    assert "different. Its result is not that of its own code, params and data; nothing was run." in done.stdout
    assert "  the tag's message: claim: not what its commit has\n" in done.stdout
    done = run([BIN / "python", "-m", "review", "reproduce", "v3"], folder, expect=1)
    assert "the tag's message: expected test accuracy" in done.stdout


def test_refusals(copy_reproduced: Callable[[str], Path]) -> None:
    """All reasons at once: a name that is taken, work that is not committed, a stale lock, weights that are gone."""
    folder = copy_reproduced("refused")
    run("git tag taken", folder)
    assert "'a name' is no name that Git takes" in refusal(run([*TAG, "a name", "--local"], folder, expect=1))
    edit_params(folder, lr=0.2)
    run("git commit --quiet --all --message stale && echo >> README.md && touch new", folder)
    for stage in yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values():
        for out in stage["outs"]:
            if out["path"] == "models/model.safetensors":
                (folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink()
    message = refusal(run([*TAG, "taken", "--local"], folder, expect=1))
    assert "the tag taken exists; a release is never changed" in message
    assert "uncommitted: README.md, new" in message
    assert "train: lr was 0.1 in the run, is 0.2" in message
    assert "models/model.safetensors: in no cache here" in message
    assert run("git tag", folder).stdout == "taken\n"


def test_without_a_result(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("none")
    run("git rm --quiet dvc.lock && git commit --quiet --message none", folder)
    assert "dvc.lock: not in HEAD" in refusal(run([*TAG, "v1.0", "--local"], folder, expect=1))
