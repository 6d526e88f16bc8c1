"""The model card: what a stranger who is handed models/ should know, from measured facts only.

Headings follow Hugging Face's model cards (Mitchell et al., "Model Cards for Model Reporting", 2019).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.common.escape import markdown
from stages.common.files import read_json, write_text
from stages.evaluate.evaluation import Evaluation
from stages.model.dataset import read_dataset
from stages.model.pretrained import Origin
from stages.model.trained import MODELS

CARD = MODELS / "README.md"
ENVIRONMENT = Path("metrics/environment.json")
_SHOWN_CLASSES = 100


def write_card(evaluation: Evaluation, recall: Sequence[float]) -> None:
    """Write models/README.md. `recall`: of each class."""
    model, metrics = evaluation.model, evaluation.metrics
    info, params, origin = model.info, model.params, model.origin
    dataset = read_dataset()
    environment = read_json(ENVIRONMENT, "`dvc repro train` makes it.")
    worst = sorted(zip(recall, info.classes, strict=True))[:5]
    shown = {name: "none" if value == "" else value for name, value in params.items()}
    counts = {split: sum(of_class.values()) for split, of_class in dataset["counts"].items()}
    lines = [
        "---",
        "pipeline_tag: image-classification",
        "library_name: pytorch",
        "metrics: [accuracy]",
        "---",
        "",
        f"# {markdown(params['model'])} for {len(info.classes)} classes",
        "",
        "Written by `python -m stages.evaluate`, from what was measured.",
        "",
        "## Model Details",
        "",
        f"- Architecture: {markdown(params['model'])}, trained from {_beginning(params, origin)}",
        f"- Input: {info.image_size} × {info.image_size} pixels, {'grey' if info.channels == 1 else 'RGB'}; pictures "
        f"of another shape become square by `resize: {info.resize}`",
        f"- Classes: {_listed(info.classes)}",
        "",
        "## How to Get Started with the Model",
        "",
        "```sh",
        "python -m stages.predict IMAGE --top 3",
        "```",
        "",
        "## Training Details",
        "",
        f"- Images: {counts['train']} to learn from, {counts['val']} to choose the epoch by",
        f"- Data: arrays with SHA-256 {dataset['sha256']['train-images.npy'][:16]}… (train), "
        f"{dataset['sha256']['val-images.npy'][:16]}… (val); `data.dvc` of the same commit names the raw images",
        f"- Params: {', '.join(markdown(f'{name} {value}') for name, value in sorted(shown.items()))}",
        f"- Packages: {', '.join(markdown(f'{name} {version}') for name, version in environment['packages'].items())}",
        "",
        "## Evaluation",
        "",
        f"On {metrics['images']} val images. The epoch was chosen by them, and often the experiment too, so the "
        "figures are optimistic. What was reached on test images is in the tag of the release, and in "
        "`claim/test.json`.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| accuracy | {metrics['accuracy']:.4f}, 95 % interval {metrics['accuracy_low']:.4f} to "
        f"{metrics['accuracy_high']:.4f} (Wilson) |",
        *(
            f"| {name.replace('_', ' ')} | {value:.4f} |"
            for name, value in metrics.items()
            if name != "images" and not name.startswith("accuracy")
        ),
        "",
        "## Bias, Risks, and Limitations",
        "",
        f"- Classes recognised least: {', '.join(f'{markdown(name)} (recall {value:.2f})' for value, name in worst)}",
        f"- Stated probabilities and accuracy differ by {metrics['calibration_error']:.3f} on average",
        "- Nothing was measured on pictures of another source, nor on pictures of none of the classes.",
    ]
    write_text(CARD, "\n".join(lines) + "\n")


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(map(markdown, classes[:_SHOWN_CLASSES]))
    more = len(classes) - _SHOWN_CLASSES
    return f"{shown} and {more:,} more, in `plots/per_class.csv`" if more > 0 else shown


def _beginning(params: Mapping[str, Any], origin: Origin | None) -> str:
    if origin is None:
        return "random weights"
    return (
        f"the pretrained weights {markdown(params['weights'])} (licence {markdown(origin.licence)}; trained on "
        f"{markdown(origin.trained_on)}; from {markdown(origin.source)})"
    )
