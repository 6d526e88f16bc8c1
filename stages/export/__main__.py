"""Export: the trained model as ONNX, once its answers are shown to be the same. `make export` runs it. Writes:

models/model.onnx     stored images, uint8, to logits, with all that is needed to use it in its metadata
metrics/export.json   changed answers and a bound of the differences of probabilities on the test split, by size of
                      the batch; versions; and the MD5 of the weights, of the test images and of the exported model
"""

import argparse
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stages.common.dependencies import require_modules_listed
from stages.common.errors import run_main
from stages.common.files import replacing, require_writable, write_json
from stages.common.params import load
from stages.common.versions import md5_of
from stages.export.onnx_model import PACKAGES, describe, onnx_model
from stages.export.params import ExportParams
from stages.export.parity import BATCHES, compare, require_equal
from stages.model.checked_split import load_rows, load_split, mirrored_batches
from stages.model.dataset import PREPARED, Split, load_info
from stages.model.runtime import Runtime, setup
from stages.model.trained import MODELS, WEIGHTS, TrainedModel, load_trained
from stages.onnx.classifier import classifier_of
from stages.onnx.sealed import MODEL

METRICS = Path("metrics/export.json")


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m stages.export", description="Write models/ as ONNX, and compare on the test split of prepared/."
    ).parse_args()
    params = load(ExportParams)
    runtime = setup(params)
    # DVC has written dvc.lock since train ran; whoever runs the stage without it, has not.
    model = load_trained(recorded="DVC_STAGE" in os.environ)
    split = load_split("test", model, load_info(), runtime)
    rows = load_rows("test", split)
    require_writable(MODEL, METRICS)
    description = describe(model, MODELS, tta_flip=params.tta_flip)
    content = onnx_model(model, description)
    print(
        f"export: {description.architecture}, {len(content):,} bytes of ONNX, opset {description.opset}; centre, "
        f"normalisation{' and mirrored images (tta_flip)' if params.tta_flip else ''} in its graph",
        flush=True,
    )
    model.to(runtime.device)
    exact = replace(runtime, precision="fp32")
    print(f"  {len(split)} test images on {exact}, and by onnxruntime {version('onnxruntime')}", flush=True)
    logits = answers(model, split, params, exact)
    parity = compare(logits, split, classifier_of(content, MODEL, params.threads))
    for batch in BATCHES:
        print(
            f"  in batches of {batch:2}: {len(parity.changed(batch))} answers changed, largest difference of a "
            f"probability {parity.difference(batch):.6g}"
        )
    require_equal(parity, [row["path"] for row in rows], model.info.classes)
    figures = parity.figures()
    if runtime.precision != exact.precision:
        # No fault of the export: evaluate's figures are of the network in this precision.
        by_precision = int((answers(model, split, params, runtime).argmax(1) != logits.argmax(1)).sum())
        figures[f"changed_by_{runtime.precision}"] = by_precision
        print(f"  in {runtime.precision}, as evaluate computes, {by_precision} answers of the network are other ones")
    require_modules_listed()
    with replacing(MODEL) as temporary:
        temporary.write_bytes(content)
    # `dvc commit` and `dvc exp save` record whatever lies there as what the stage made of what lies there.
    measured = [WEIGHTS, *(PREPARED / f"test-{part}.npy" for part in ("images", "labels")), MODEL]
    write_json(
        METRICS,
        {
            **figures,
            "opset": description.opset,
            **{name: version(name) for name in ("onnxruntime", *PACKAGES)},
            "measured": [{"path": path.as_posix(), "md5": md5_of(path)} for path in measured],
        },
    )
    print(f"  → {MODEL}, {METRICS}")


def answers(model: TrainedModel, split: Split, params: ExportParams, runtime: Runtime) -> np.ndarray:
    """The network's logits of all images, float64 N×classes, as evaluate computes them; with tta_flip, the mean of
    those for the image and its mirror image."""
    logits = model.logits(split.batches(params.eval_batch_size), runtime)
    if not params.tta_flip:
        return logits
    mirrored = model.logits(mirrored_batches(split, params.eval_batch_size), runtime)
    return np.asarray((logits + mirrored) / 2)


if __name__ == "__main__":
    run_main(main)
