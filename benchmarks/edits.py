"""30 edits of a result after its run, for benchmarks/tampering.py."""

from benchmarks.forgery import Forgery, both, claimed_from, edit, edit_metric, other_data, relocked

EVALUATE, ENVIRONMENT = "metrics/evaluate.json", "metrics/environment.json"
EDITS = [
    Forgery(
        "accuracy edited", edit_metric(EVALUATE, accuracy=0.9999), "gate", f"edited: {EVALUATE}: not what evaluate"
    ),
    Forgery(
        "val accuracy edited", edit_metric("metrics/train.json", val_accuracy=1.0), "gate", "edited: metrics/train.json"
    ),
    Forgery(
        "image counts edited", edit("metrics/prepare.json", r"\d+", "9999"), "gate", "edited: metrics/prepare.json"
    ),
    Forgery("curve edited", edit("plots/curves.csv", r"^12,", "13,"), "gate", "edited: plots/curves.csv"),
    Forgery("card edited", edit("models/README.md", "accuracy", "Accuracy"), "gate", "edited: models/README.md"),
    Forgery(
        "GPU claimed", edit("metrics/environment.json", '"cpu"', '"cuda"'), "gate", "edited: metrics/environment.json"
    ),
    Forgery(
        "param edited after the run", edit("params.yaml", r"^lr: .*", "lr: 0.2"), "gate", "train: lr was 0.1 in the run"
    ),
    Forgery(
        "code edited after the run", edit("stages/train/augment.py", r"\Z", "# x\n"), "gate", "stages/train was changed"
    ),
    Forgery(
        "other data named", edit("data.dvc", r"md5: \w", "md5: 0"), "gate", "prepare: data was 72e131e0cd… in the run"
    ),
    Forgery(
        "another package pinned",
        edit("pyproject.toml", r"numpy==2\.4", "numpy==2.3"),
        "gate",
        "stale: prepare: pyproject",
    ),
    Forgery(
        "launcher edited",
        edit("params.yaml", "^launcher: .*", "launcher: [srun, python]"),
        "gate",
        "train: launcher was ['python",
    ),
    Forgery(
        "dependency hidden", edit("dvc.yaml", r"      - stages/train\n", ""), "gate", "stages/train is no dependency"
    ),
    Forgery(
        "accuracy edited, dvc.lock too",
        relocked(edit_metric(EVALUATE, accuracy=0.9999), EVALUATE),
        "gate",
        f"edited: {EVALUATE}: accuracy 0.9999 on",
    ),
    Forgery(
        "val accuracy edited, dvc.lock too",
        relocked(edit_metric("metrics/train.json", val_accuracy=1.0), "metrics/train.json"),
        "reproduce",
        "since stage train: metrics/train.json",
    ),
    Forgery(
        "param edited, dvc.lock too",
        both(
            edit("params.yaml", "^weight_decay: .*", "weight_decay: 0.01"),
            edit("dvc.lock", "weight_decay: .*", "weight_decay: 0.01"),
        ),
        "reproduce",
        "since stage train: metrics/train.json, models/model.json, models/model.safetensors",
    ),
    Forgery(
        "code edited, dvc.lock too",
        relocked(edit("stages/train/optimizer.py", r'\["lr"\] = lr', '["lr"] = lr * 0.9'), "stages/train"),
        "reproduce",
        "since stage train: ",
    ),
    Forgery(
        "weights of another seed",
        claimed_from("seed-1", "models/model.safetensors", "models/model.json"),
        "reproduce",
        "since stage train: models/model.json, models/model.safetensors",
    ),
    Forgery(
        "predictions of another run",
        claimed_from("lr-0.02", "predictions.csv"),
        "reproduce",
        "since stage evaluate: predictions.csv",
    ),
    Forgery(
        "metrics of another run",
        claimed_from("seed-1", EVALUATE, "plots/per_class.csv", "plots/confusion.csv"),
        "reproduce",
        f"since stage evaluate: {EVALUATE}, plots/",
    ),
    Forgery("an image under another class, dvc.lock too", other_data, "reproduce", "since stage prepare: "),
    Forgery(
        "command wrapped, dvc.lock too",
        both(*(edit(file, "(stages.evaluate)$", r"\1 \&\& cp a b") for file in ("dvc.yaml", "dvc.lock"))),
        "gate",
        "command: evaluate: expected `python -m stages.evaluate`, got",
    ),
    Forgery(
        "another module as a stage, dvc.lock too",
        both(*(edit(file, "stages.evaluate$", "stages.model.evaluate") for file in ("dvc.yaml", "dvc.lock"))),
        "gate",
        "command: evaluate: expected `python -m stages.evaluate`, got",
    ),
    Forgery(
        "stage frozen",
        edit("dvc.yaml", "^    cmd: python -m stages.train.*", r"\g<0>\n    frozen: true"),
        "gate",
        "frozen",
    ),
    Forgery(
        "metric of no stage",
        lambda clone: (clone / "metrics/best.json").write_text("{}"),
        "gate",
        "undeclared: metrics/best",
    ),
    Forgery(
        "test fraction, dvc.lock too",
        both(
            edit("params.yaml", "^test_fraction: .*", "test_fraction: 0.1"),
            edit("dvc.lock", "test_fraction: .*", "test_fraction: 0.1"),
        ),
        "reproduce",
        "since stage prepare: ",
    ),
    Forgery(
        "claim edited",
        edit_metric("claim/test.json", accuracy=0.9999),
        "gate",
        "edited: claim/test.json: not what claim",
    ),
    Forgery(
        "claim removed, its lock kept",
        lambda clone: (clone / "claim/test.json").unlink(),
        "gate",
        "edited: claim/test.json",
    ),
    Forgery(
        "claimed accuracy edited, its lock too",
        relocked(edit_metric("claim/test.json", accuracy=0.9999), "claim/test.json", "claim/dvc.lock"),
        "gate",
        "edited: claim/test.json: accuracy 0.9999 on",
    ),
    Forgery(
        "another machine claimed, dvc.lock too",
        both(
            relocked(
                edit("metrics/environment.json", '"cpu_capability": "[^"]*"', '"cpu_capability": "NEON"'), ENVIRONMENT
            ),
            relocked(edit_metric(EVALUATE, accuracy=0.9999), EVALUATE),
        ),
        "gate",
        "edited: metrics/evaluate.json: accuracy 0.9999 on",
    ),
    Forgery(
        "runs that the model was chosen from",
        edit("claim/chosen.json", r'"runs": \d+', '"runs": "one"'),
        "gate",
        "unreadable: claim/chosen.json: runs: expected a number",
    ),
]
