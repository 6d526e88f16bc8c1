"""The trained model on disk, and ready to use: what train writes, evaluate measures and predict applies."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from stages.common.errors import UserError
from stages.common.extensions import why_no_extension
from stages.common.files import read_json, replacing, write_json
from stages.model.architectures import build_model, to_device
from stages.model.dataset import Batch, DatasetInfo
from stages.model.own_model import ROOM
from stages.model.pretrained import Origin, Pretrained
from stages.model.recorded import require_recorded
from stages.model.runtime import Runtime

MODELS = Path("models")
MODEL = MODELS / "model.json"
WEIGHTS = MODELS / "model.safetensors"
# In the header of the weights, the SHA-256 of the model.json that they belong to.
_DIGEST = "sha256 of model.json"
# Of logits, for what is computed part by part: 16 MB in float64. Smaller data sets are one part.
_PART_VALUES = 1 << 21
_REMEDY = "`dvc repro train` makes it; `make results` gets it, where it was pushed."


class TrainedModel(NamedTuple):
    """The network with its weights, the data that it was made for, and the params that it was trained with, as they
    were then: a later version of the code may have other ones. `origin`: of the weights that training began with."""

    network: nn.Module
    info: DatasetInfo
    params: dict[str, Any]
    origin: Origin | None = None

    def to(self, device: torch.device) -> "TrainedModel":
        """The same on a device, in the memory format of training."""
        return self._replace(network=to_device(self.network, device))

    def logits(self, batches: Iterable[Batch], runtime: Runtime) -> np.ndarray:
        """Of all images, float64 N×classes. UserError where one is not finite."""
        return np.concatenate(list(self.logit_parts(batches, runtime)))

    @torch.inference_mode()
    def logit_parts(self, batches: Iterable[Batch], runtime: Runtime) -> Iterator[np.ndarray]:
        """The same in parts of some batches, for whoever keeps less of them than all: those of 50,000 images and
        10,000 classes take 4 GB. A device is waited for once in each part."""
        self.network.eval()
        waiting: list[torch.Tensor] = []
        for batch in batches:
            with runtime.autocast():
                waiting.append(self.network(batch.images))
            if sum(map(torch.numel, waiting)) >= _PART_VALUES:
                yield _on_host(waiting)
                waiting = []
        if waiting:
            yield _on_host(waiting)


def _on_host(outputs: list[torch.Tensor]) -> np.ndarray:
    logits: np.ndarray = torch.cat(outputs).double().cpu().numpy()
    if not np.isfinite(logits).all():
        raise UserError(f"{WEIGHTS}: the model gives logits that are not finite. Train it again, lr lower.")
    return logits


def save_trained(
    tensors: dict[str, torch.Tensor],
    info: DatasetInfo,
    params: dict[str, Any],
    epoch: int,
    val_accuracy: float,
    pretrained: Pretrained | None = None,
) -> None:
    """Write all that evaluate or a stranger needs to use the weights, and the weights, which name it."""
    origin = {"pretrained": pretrained.origin.model_dump()} if pretrained else {}
    write_json(
        MODEL,
        {
            "architecture": params["model"],
            **asdict(info),
            "epoch": epoch,
            "val_accuracy": round(val_accuracy, 6),
            **origin,
            "params": params,
        },
    )
    content = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with replacing(WEIGHTS) as temporary:
        temporary.write_bytes(save(content, {_DIGEST: _sha256(MODEL)}))


def read_params(folder: Path = MODELS) -> dict[str, Any]:
    """The params in model.json: some have to be set before PyTorch's first operation. UserError where it has none."""
    params = read_json(folder / MODEL.name, _REMEDY).get("params")
    if not isinstance(params, dict):
        raise UserError(f"{folder / MODEL.name}: params: expected an object, got {params!r}. {_REMEDY}")
    return params


def load_trained(folder: Path = MODELS, *, recorded: bool = True) -> TrainedModel:
    """Read model.json and model.safetensors. UserError where one is missing, damaged, not the other's, or, with
    `recorded`, not the one that dvc.lock beside the folder records; where that names none, says so on stderr."""
    path, weights = folder / MODEL.name, folder / WEIGHTS.name
    description = read_json(path, _REMEDY)
    if recorded and weights.exists() and not require_recorded([path, weights]):
        print(f"model: {folder}: no dvc.lock beside it names its files; taken as they are", file=sys.stderr)
    try:
        with safe_open(weights, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except FileNotFoundError:
        raise UserError(f"{weights}: no such file. {_REMEDY}") from None
    except SafetensorError as error:
        raise UserError(f"{weights}: not a whole safetensors file ({error}). {_REMEDY}") from None
    if metadata.get(_DIGEST) != _sha256(path):
        raise UserError(
            f"{path}: not what train wrote with {weights.name}, which names the SHA-256 of its description: one of the "
            f"two was edited or is of another run. {_REMEDY}"
        )
    try:
        # Earlier descriptions have no stored_size: it was image_size.
        described = {"stored_size": description["image_size"]} | description
        info = DatasetInfo(**{name: described[name] for name in DatasetInfo.__dataclass_fields__})
        params = dict(description["params"])
        origin = Origin.model_validate(description["pretrained"]) if "pretrained" in description else None
        architecture = description["architecture"]
        if ":" in architecture and (reason := why_no_extension(architecture, ROOM)):
            raise UserError(
                f"{path}: architecture: {architecture!r}: {reason}. Of a model of another project, put the file of its "
                f"network into {ROOM.replace('.', '/')}/, once you have read it."
            )
        network = build_model(
            architecture,
            num_classes=len(info.classes),
            channels=info.channels,
            image_size=info.image_size,
            options=dict(params.get("options", {})),
        )
    except KeyError as error:
        raise UserError(f"{path}: no key {error}. {_REMEDY}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not what train wrote ({error}). {_REMEDY}") from None
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{weights}: not the weights of {description['architecture']} as its code is now ({reason}). {_REMEDY}"
        ) from None
    return TrainedModel(network, info, params, origin)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
