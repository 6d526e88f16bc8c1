"""The test split is read for a claim alone, and a claim is shown as that of the model that it is of, or not at all."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.project import BIN, edit_params, refusal, run

REVIEW: list[str | Path] = [BIN / "python", "-m", "review"]
DIFF: list[str | Path] = [*REVIEW, "diff", "HEAD~1", "HEAD", "--offline"]
GATE: list[str | Path] = [*DIFF, "--gate", "--allow", "loss,unknown=a test"]


def commit(folder: Path) -> None:
    run("git add . && git commit --quiet --message result", folder)


def forge(folder: Path, **figures: float) -> None:
    """Edit the claimed figures."""
    path = folder / "claim/test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | figures, indent=2) + "\n")


def relock_claim(folder: Path) -> None:
    """Make claim/dvc.lock say that its run wrote the figures."""
    md5 = run(["md5sum", "claim/test.json"], folder).stdout[:32]
    lock = folder / "claim/dvc.lock"
    recorded = r"(path: claim/test.json\n      hash: md5\n      md5: )\w+"
    lock.write_text(re.sub(recorded, rf"\g<1>{md5}", lock.read_text()))


def test_from_a_claim_to_another_model(copy_reproduced: Callable[[str], Path]) -> None:
    folder = copy_reproduced("claimed")
    assert re.search(r"test accuracy +not claimed in the working tree", run([*REVIEW, "summary"], folder).stdout)
    edit_params(folder, epochs=2)
    assert "Not committed:\n  params.yaml" in refusal(run("make claim", folder, expect=2))
    commit(folder)
    assert "train: epochs was 3 in the run, is 2" in refusal(run("make claim", folder, expect=2))
    run("git reset --quiet --hard HEAD~1", folder)

    said = run("make claim", folder).stdout
    figures = json.loads((folder / "claim/test.json").read_text())
    line = f"test accuracy     {figures['accuracy']:.4f}, 95 % interval"
    assert line in said
    assert re.search(r"to commit +`git add \. && git commit`: .*claim/dvc\.lock", said)
    commit(folder)
    assert line in run([*REVIEW, "summary"], folder).stdout
    again = run("make claim", folder).stdout
    assert "Running stage" not in again
    assert "to commit" not in again

    forge(folder, accuracy=0.123)
    for command in ([*REVIEW, "summary"], [*REVIEW, "tag", "--local", "v1"]):
        text = run(command, folder, expect=1)
        assert "0.123" not in text.stdout + text.stderr
        assert "claim/test.json" in refusal(text)
    commit(folder)
    assert "\n  edited: claim/test.json: not what claim wrote" in refusal(run(GATE, folder, expect=1))
    relock_claim(folder)
    commit(folder)
    assert "\n  edited: claim/test.json: accuracy 0.123 on" in refusal(run(GATE, folder, expect=1))
    done = run([*REVIEW, "reproduce", "--no-sandbox", "--stage", "claim", "HEAD"], folder, expect=1)
    assert "different. 1 of 3 outputs" in done.stdout
    run("git reset --quiet --hard HEAD~2", folder)

    edit_params(folder, lr=0.01)
    run([BIN / "dvc", "repro", "--quiet"], folder)
    commit(folder)
    stale = r"not claimed in .*: claim/ is of another model, data, code or params \(claim: models/model"
    for done in (run([*REVIEW, "summary"], folder), run([*REVIEW, "tag", "--local", "v1"], folder, expect=1)):
        assert re.search(stale, done.stdout + done.stderr)
        assert f"{figures['accuracy']:.4f}" not in re.sub("val accuracy.*", "", done.stdout + done.stderr)
    # Not even where DVC records it as what the stage made of this model.
    run([BIN / "dvc", "commit", "--quiet", "--force", "claim/dvc.yaml"], folder)
    assert "says that other weights or images were measured" in run([*REVIEW, "summary"], folder).stdout
    run("git checkout claim", folder)
    # It is no reason against the model. HEAD~1 has one, and no two are compared.
    gated = run(GATE, folder)
    assert "gate: passed" in gated.stderr
    claims = gated.stdout.partition("## Claims")[2].partition("##")[0]
    assert f"Test accuracy of base: {figures['accuracy']:.4f}, " in claims
    assert re.search("of head: not claimed in .*of another model", claims)
    run("make claim", folder)
    commit(folder)
    claims = run([*REVIEW, "diff", "HEAD~2", "HEAD", "--offline"], folder).stdout.partition("## Claims")[2]
    assert re.match(r"\s+This model against that model \(noise of the test images\): accuracy 0", claims)
