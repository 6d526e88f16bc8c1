"""The exported model, ready to use: uint8 images to logits by onnxruntime, on a CPU."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from stages.common.documents import DocumentError
from stages.common.errors import UserError
from stages.onnx.description import KEY, Description
from stages.onnx.sealed import read_sealed

INPUT, OUTPUT = "images", "logits"
_ERRORS_ALONE = 3


@dataclass(frozen=True)
class OnnxClassifier:
    """A session of onnxruntime, what its model says of itself, and the SHA-256 of its file. May be called from several
    threads."""

    info: Description
    session: onnxruntime.InferenceSession
    path: Path
    sha256: str

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Of stored images, uint8 N×S×S×C with S the `stored_size`: float64 N×classes. Their centre, normalisation and
        the mirrored images of `tta_flip` are the graph's. UserError where one is not finite."""
        side, channels = self.info.stored_size, self.info.channels
        if rows.dtype != np.uint8 or rows.shape[1:] != (side, side, channels):
            raise ValueError(f"expected uint8 N×{side}×{side}×{channels}, got {rows.dtype} {rows.shape}")
        (logits,) = self.session.run([OUTPUT], {INPUT: rows})
        exact: np.ndarray = np.asarray(logits, np.float64)
        if not np.isfinite(exact).all():
            raise UserError(f"{self.path}: the model gives logits that are not finite. Train it again, lr lower.")
        return exact


def load(path: Path, threads: int) -> OnnxClassifier:
    """Read models/model.onnx, to compute with so many threads. UserError where it is missing, is not what `make export`
    wrote, is not of the model beside it, if there is one, or this onnxruntime cannot use it."""
    classifier = classifier_of(read_sealed(path), path, threads)
    for name, digest in classifier.info.sha256.items():
        file = path.with_name(name)
        if file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise UserError(
                f"{path}: exported from another model than the one beside it: expected {file} with SHA-256 "
                f"{digest[:16]}…. `make export` exports the one that is there."
            )
    return classifier


def classifier_of(content: bytes, path: Path, threads: int) -> OnnxClassifier:
    """The same of the bytes of a file; `path` is its name in messages."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ALONE
    options.use_deterministic_compute = True
    # A thread that waits sleeps: spinning would take the cores from what decodes pictures and answers requests. The
    # service's requests a second without it over those with it, resnet9 at 32 px, 2 cores with other work on them,
    # medians of 6 interleaved rounds: 1 client 2.4, 8 clients 1.8, 64 clients 2.0.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    remedy = "Use the versions of requirements.lock, and export again with them: `make export`."
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common class but this
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: onnxruntime {onnxruntime.__version__} cannot use it ({reason}). {remedy}") from None
    try:
        info = Description.from_json(session.get_modelmeta().custom_metadata_map.get(KEY, ""))
    except DocumentError as error:
        raise UserError(f"{path}: {KEY} in its metadata: {error}. {remedy}") from None
    found = [(port.name, port.type, _shape(port.shape)) for port in (*session.get_inputs(), *session.get_outputs())]
    expected = [
        (INPUT, "tensor(uint8)", f"N×{info.stored_size}×{info.stored_size}×{info.channels}"),
        (OUTPUT, "tensor(float)", f"N×{len(info.classes)}"),
    ]
    if found != expected:
        raise UserError(f"{path}: its graph does not fit its description: expected {expected}, got {found}. {remedy}")
    return OnnxClassifier(info, session, path, hashlib.sha256(content).hexdigest())


def _shape(dimensions: list[int | str | None]) -> str:
    """As N×32×32×3; one of any size has a name of onnxruntime's, or none, in place of a number."""
    return "×".join(str(size) if isinstance(size, int) else "N" for size in dimensions)
