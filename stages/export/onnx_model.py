"""The trained network as ONNX: stored images in, logits out, with all that lies between inside the graph."""

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import nn

from stages.common.errors import UserError
from stages.model.dataset import centre, mean_and_scale
from stages.model.trained import TrainedModel
from stages.onnx.classifier import INPUT, OUTPUT
from stages.onnx.description import KEY, MADE_OF, Description
from stages.onnx.sealed import seal

# What the exporter of PyTorch 2.11 is made for; onnxruntime reads it since 1.14.
OPSET = 18
PACKAGES = ("torch", "onnx", "onnxscript")
# Of one protobuf message, which the file is.
_MOST_BYTES = 2**31 - 1
# Neither a constant of the graph (1) nor, as it differs from all sizes of an image, taken for one of them.
_EXAMPLES = 2
_REMEDY = (
    "If it is an own model, write it in other operations; else choose another architecture, or use the model with "
    "PyTorch, by `python -m stages.predict`."
)


class Deployed(nn.Module):
    """uint8 N×S×S×C → float32 N×classes: centre and normalisation with the arithmetic of `Split.seen`, the network, and
    with `tta_flip` the mean of its logits for the image and its mirror image."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, model: TrainedModel, *, tta_flip: bool) -> None:
        super().__init__()
        mean, scale = mean_and_scale(model.info, torch.device("cpu"))
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.network = model.network
        self.side = model.info.image_size
        self.tta_flip = tta_flip

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        images = ((centre(rows, self.side).float() - self.mean) * self.scale).permute(0, 3, 1, 2)
        logits: torch.Tensor = self.network(images)
        return (logits + self.network(images.flip(3))) / 2 if self.tta_flip else logits


def describe(model: TrainedModel, folder: Path, *, tta_flip: bool) -> Description:
    """What the file will say of the model in `folder`."""
    return Description(
        architecture=model.params["model"],
        classes=model.info.classes,
        channels=model.info.channels,
        image_size=model.info.image_size,
        stored_size=model.info.stored_size,
        resize=model.info.resize,
        tta_flip=tta_flip,
        opset=OPSET,
        versions={name: version(name) for name in PACKAGES},
        sha256={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MADE_OF},
        pretrained=model.origin.model_dump() if model.origin else None,
    )


def onnx_model(model: TrainedModel, description: Description) -> bytes:
    """The file models/model.onnx. The same model and packages give the same bytes.

    UserError where PyTorch cannot export the architecture, or the weights are too large for one file.
    """
    side, channels = model.info.stored_size, model.info.channels
    deployed = Deployed(model, tta_flip=description.tta_flip).cpu().eval()
    example = torch.zeros(_EXAMPLES, side, side, channels, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                deployed,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=description.opset,
                optimize=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(
            f"export: {description.architecture}: PyTorch cannot export it as ONNX ({_reason(error)}). {_REMEDY}"
        ) from None
    assert program is not None
    proto = program.model_proto
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UserError(
            f"export: {description.architecture}: PyTorch exports it for {_EXAMPLES} images at a time alone, as its "
            f"code uses the size of the batch as a constant. {_REMEDY}"
        )
    _remove_traces(proto)
    proto.metadata_props.add(key=KEY, value=description.to_json())
    if (size := proto.ByteSize()) > _MOST_BYTES:
        raise UserError(
            f"export: {description.architecture}: {size:,} bytes; expected {_MOST_BYTES:,} at most, as a file "
            "of ONNX has. Choose a smaller architecture."
        )
    onnx.checker.check_model(proto)
    return seal(proto.SerializeToString(deterministic=True))


def _reason(error: BaseException) -> str:
    """The first line of what began it: the exporter's own message is how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n")[0]


def _remove_traces(proto: onnx.ModelProto) -> None:
    """Remove what the exporter notes for debugging, such as stack traces with paths of this machine."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    graphs: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while graphs:
        graph = graphs.pop()
        values = [*graph.value_info]
        if isinstance(graph, onnx.GraphProto):
            values += [*graph.initializer, *graph.input, *graph.output]
        for part in (graph, *graph.node, *values):
            del part.metadata_props[:]
            part.doc_string = ""
        for node in graph.node:
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's messages, which are for its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        unread = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
