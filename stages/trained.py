"""The trained model, ready to use: what evaluate measures and predict applies."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from stages.dataset import Batch, DatasetInfo
from stages.errors import UserError
from stages.files import read_json
from stages.model import build_model
from stages.params import TrainParams
from stages.runtime import Runtime

MODELS = Path("models")
_REMEDY = (
    "`dvc repro train` makes it; `dvc pull models/model.json models/model.safetensors` gets it, where it was pushed."
)


class TrainedModel(NamedTuple):
    """The network with its weights, the data that it was made for, and the params that it was trained with."""

    network: nn.Module
    info: DatasetInfo
    params: TrainParams

    def to(self, device: torch.device) -> "TrainedModel":
        """The same on a device, in the memory format of training."""
        moved = self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
        return self._replace(network=moved)

    @torch.inference_mode()
    def logits(self, batches: Iterable[Batch], runtime: Runtime) -> np.ndarray:
        """Of all images, float64 N×classes. UserError where one is not finite."""
        self.network.eval()
        with runtime.autocast():
            logits: np.ndarray = torch.cat([self.network(batch.images) for batch in batches]).double().cpu().numpy()
        if not np.isfinite(logits).all():
            raise UserError(
                f"{MODELS}/model.safetensors: the model gives logits that are not finite. Train it again, lr lower."
            )
        return logits


def load_trained(folder: Path = MODELS) -> TrainedModel:
    """Read model.json and model.safetensors. UserError where one is missing, damaged, or not the other's."""
    path, weights = folder / "model.json", folder / "model.safetensors"
    description = read_json(path, _REMEDY)
    try:
        info = DatasetInfo(**{name: description[name] for name in DatasetInfo.__dataclass_fields__})
        params = TrainParams.model_validate(description["params"])
        network = build_model(
            description["architecture"],
            num_classes=len(info.classes),
            channels=info.channels,
            image_size=info.image_size,
        )
    except KeyError as error:
        raise UserError(f"{path}: no key {error}. {_REMEDY}") from None
    except (ValidationError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: not what train writes ({reason}). {_REMEDY}") from None
    try:
        network.load_state_dict(load(weights.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{weights}: no such file. {_REMEDY}") from None
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{weights}: not the weights of the {description['architecture']} in {path} ({reason}). {_REMEDY}"
        ) from None
    return TrainedModel(network, info, params)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax, float64 N×classes."""
    powers: np.ndarray = np.exp(logits - logits.max(1, keepdims=True))
    powers /= powers.sum(1, keepdims=True)
    return powers
