"""Put a version of the model at a stage: `make promote VERSION=v1.2.0 STAGE=prod`; without both, say what is where.

A promotion is an annotated tag, classifier#prod#3, of the version's commit. .github/workflows/promote.yml proposes the
change of deploy/ that follows from it, and what watches deploy/ brings it to the cluster. Going back is a promotion of
the version before.
"""

import argparse

from review import claim, exported, git, registry
from review.registry import Registry, Version
from review.revision import Missing, Revision
from review.tag import disagreements
from scripts.deploy import deployed
from stages.common import escape
from stages.common.errors import UserError, listed, run_main


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.promote", description=__doc__)
    parser.add_argument("--stage", default="", help="where to: staging, prod")
    parser.add_argument("version", nargs="?", default="", help="such as v1.2.0")
    arguments = parser.parse_args()
    known = registry.read()
    if not arguments.stage and not arguments.version:
        print(escape.message(overview(known)))
        return
    if not arguments.stage or not arguments.version:
        raise UserError(
            "promote: expected both or none of a version and a stage: `make promote VERSION=v1.2.0 STAGE=prod`."
        )
    version = find(known, arguments.version)
    require_promotable(known, version, arguments.stage)
    before = known.of_stages().get(arguments.stage)
    tag = f"{registry.ARTIFACT}#{arguments.stage}#{known.next_number()}"
    left = "" if before is None or before.removes else f", in place of {named(known, before.commit)}"
    message = f"{version.name} to {arguments.stage}{left}"
    git.git("tag", "--annotate", "--message", message, tag, version.commit)
    print(escape.terminal(f"{tag}: {message}"))
    print(f"`git push origin '{tag}'` makes it known. If that is refused, somebody was faster:")
    print(f"`git tag --delete '{tag}' && git fetch --tags`, and look again.")


def find(known: Registry, name: str) -> Version:
    """The version of this name. UserError where there is none."""
    found = next((version for version in known.versions if version.name == name), None)
    if found is None:
        there = ", ".join(version.name for version in known.versions[:10]) or "none"
        raise UserError(
            f"promote: no version {name}; there are: {there}. `git fetch --tags` gets those of others, and on the main "
            f"branch `python -m review tag {registry.ARTIFACT}@v1.2.0` makes one."
        )
    return found


def require_promotable(known: Registry, version: Version, stage: str) -> None:
    """UserError, with everything that is in the way."""
    revision = Revision.named(version.tag)
    problems = []
    if not registry.is_stage(stage):
        problems.append(f"{stage!r} is no name of a stage; expected letters, digits, - and _, such as prod")
    here = known.of_stages().get(stage)
    if here is not None and not here.removes and here.commit == version.commit:
        problems.append(f"{version.name} is at {stage} already, by {here.tag}")
    branch = git.main_branch()
    if git.git("rev-list", "--max-count=1", version.commit, f"^{branch}").strip():
        problems.append(f"{version.tag} is not in {branch}: have it merged, then `git fetch`")
    if not (git.tag_message(f"refs/tags/{version.tag}") or "").partition("\n\n")[2].startswith("{"):
        problems.append(f"{version.tag} was made by hand; `python -m review tag` makes one that carries its result")
    problems += disagreements(revision)
    for require in (claim.fresh_lock, _require_export):
        try:
            require(revision)
        except Missing as missing:
            problems.append(str(missing))
    if problems:
        raise UserError(f"promote: {version.name} must not go to {stage}\n{listed(problems)}")


def _require_export(revision: Revision) -> None:
    if exported.fresh_lock(revision) is None:
        raise Missing(f"{revision} has no export, which the service runs: `make export` writes it, before the tag.")


def overview(known: Registry) -> str:
    """Stages with their versions, by the tags and by what lies in deploy/ here; then the versions."""
    if not known.versions:
        return f"no version here; on the main branch, `python -m review tag {registry.ARTIFACT}@v1.0.0` makes one"
    lines = []
    for stage, one in sorted(known.of_stages().items()):
        wanted = "nothing" if one.removes else named(known, one.commit)
        there = deployed(stage)
        state = f"as in deploy/{stage}/" if there == wanted else f"deploy/{stage}/ has {there or 'nothing'}"
        lines.append(f"{stage:18}{wanted}, by {one.tag}; {state}")
    lines += [f"{version.name:18}{claim.said(Revision.named(version.tag))}" for version in known.versions]
    return "\n".join(lines)


def named(known: Registry, commit: str) -> str:
    """The version of a commit, or the commit's first digits where it has none."""
    version = known.version(commit)
    return version.name if version else commit[:12]


if __name__ == "__main__":
    run_main(main)
