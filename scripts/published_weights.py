"""Weights where they are published: torchvision's, timm's on the Hugging Face hub, a file's, another project's."""

import hashlib
import json
import os
import pickle
import re
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from scripts.download import ask, download
from stages.common.errors import UserError
from stages.common.files import read_json
from stages.model.architectures import build_model
from stages.model.head import name_of_head
from stages.model.names import TIMM, TORCHVISION_MODELS
from stages.model.pretrained import Origin
from stages.model.trained import load_trained

# The hub's own variable names another server, such as a mirror (docs of huggingface_hub).
_HUB = "https://huggingface.co"
# What the images of training were like.
_SEEN = ("mean", "std", "interpolation", "image_size", "crop_share")


class Published(NamedTuple):
    """Tensors by the names that the architecture's code gives them, where they come from, and a short name."""

    tensors: dict[str, torch.Tensor]
    origin: Origin
    label: str


def from_torchvision(name: str, folder: Path) -> Published:
    """torchvision's own, the newest or those with a name after a dot. The file's name has the beginning of its hash."""
    from torchvision.models import get_model, get_model_weights

    architecture, _, chosen = name.partition(".")
    if architecture not in TORCHVISION_MODELS:
        raise UserError(
            f"weights: {name}: expected an architecture of torchvision, such as resnet18, or of timm, such as "
            "timm/resnet18.a1_in1k; for those of a file, add `--from FILE`."
        )
    known = {one.name: one for one in get_model_weights(architecture)}
    if chosen and chosen not in known:
        raise UserError(f"weights: {name}: torchvision has {', '.join(known)} of {architecture}; got {chosen}.")
    weights = known[chosen] if chosen else get_model_weights(architecture).DEFAULT
    # torchvision looks for the file here before it asks the network, and adapts names of tensors of old files.
    path = folder / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    begins = re.search(r"-([0-9a-f]{8,})\.\w+$", path.name)
    sha256 = download(weights.url, path, begins[1] if begins else "")
    # Refuses code; what torchvision then loads is the same file.
    load_tensors(path)
    torch.hub.set_dir(str(folder / "hub"))
    origin = _origin(
        architecture=architecture,
        source=weights.url,
        source_sha256=sha256,
        licence=weights.meta.get("license", "BSD-3-Clause"),
        trained_on=f"{len(weights.meta['categories'])} classes of ImageNet ({weights})",
        classes=len(weights.meta["categories"]),
        **_seen_by_torchvision(weights),
    )
    model = get_model(architecture, weights=weights, progress=False)
    # Of googlenet and inception_v3, the auxiliary classifiers are left out, as build_model does.
    tensors = {key: tensor for key, tensor in model.state_dict().items() if not key.lower().startswith("aux")}
    return Published(tensors, origin, f"{architecture}.{weights.name}")


def from_timm(name: str, revision: str, folder: Path) -> Published:
    """timm's, from its repository on the Hugging Face hub, at a commit."""
    import timm

    tagged = name.removeprefix(TIMM)
    try:
        cfg = timm.models.get_pretrained_cfg(tagged, allow_unregistered=False)
    except RuntimeError:
        cfg = None
    if cfg is None or not cfg.hf_hub_id:
        known = timm.list_pretrained(f"{tagged.partition('.')[0]}*")
        hint = f" It has {', '.join(known[:10])}." if known else " `timm.list_pretrained()` lists them."
        raise UserError(f"weights: {name}: timm {timm.__version__} has no pretrained weights of this name.{hint}")
    architecture = tagged.partition(".")[0]
    repository = cfg.hf_hub_id if not cfg.hf_hub_id.endswith("/") else f"{cfg.hf_hub_id}{architecture}.{cfg.tag}"
    hub = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    quoted = urllib.parse.quote(revision, safe="")
    facts = ask(f"{hub}/api/models/{repository}/revision/{quoted}?blobs=true")
    commit, file = facts.get("sha"), cfg.hf_hub_filename or "model.safetensors"
    lfs = {one.get("rfilename"): one.get("lfs") or {} for one in facts.get("siblings", []) if isinstance(one, dict)}
    sha256 = lfs.get(file, {}).get("sha256")
    if not (
        isinstance(commit, str)
        and re.fullmatch(r"[0-9a-f]{40}", commit)
        and isinstance(sha256, str)
        and len(sha256) == 64
    ):
        raise UserError(f"weights: {name}: {hub} names no commit, or no SHA-256 of {file}, of {repository}.")
    source = f"{hub}/{repository}/resolve/{commit}/{file}"
    path = folder / "model.safetensors"
    download(source, path, sha256)
    card = facts.get("cardData")
    licence = cfg.license or (card.get("license") if isinstance(card, dict) else None)
    origin = _origin(
        architecture=f"{TIMM}{architecture}",
        source=source,
        source_sha256=sha256,
        licence=str(licence or "unknown"),
        trained_on=f"{cfg.num_classes} classes ({cfg.tag})",
        classes=cfg.num_classes,
        **_seen_by_timm(cfg),
    )
    return Published(load_tensors(path), origin, f"{architecture}.{cfg.tag}")


def from_file(path: Path, architecture: str, licence: str) -> Published:
    """Those of a file that lies here. A JSON beside it, of the same name, says where they come from and what they were
    trained to see; for torchvision's and timm's architectures, the latter is known, and `licence` is enough."""
    tensors = load_tensors(path)
    sha256 = _sha256(path)
    beside = path.with_suffix(".json")
    told = read_json(beside, "") if beside.exists() else {}
    for key, expected in (("sha256", sha256), ("architecture", architecture)):
        if (got := told.get(key, expected)) != expected:
            raise UserError(f"{beside}: {key}: expected {expected!r}, that of {path.name}; got {got!r}.")
    seen = _seen_by(architecture) | told
    if "resize" in told and "crop" in told:
        seen |= {"image_size": told["crop"], "crop_share": round(told["crop"] / told["resize"], 6)}
    if licence:
        seen["licence"] = licence
    if lacking := [key for key in ("licence", *_SEEN) if key not in seen]:
        raise UserError(
            f"{path}: nothing says {', '.join(lacking)} of these weights. Write it into {beside}, as JSON"
            f"{', or give --licence' if lacking == ['licence'] else ''}."
        )
    model = build_model(architecture, num_classes=2, channels=len(seen["mean"]), image_size=seen["image_size"])
    head = f"{name_of_head(model, 2)}.weight"
    if head not in tensors:
        raise UserError(f"{path}: not weights of {architecture}: {head} is missing.")
    origin = _origin(
        architecture=architecture,
        source=told.get("source", path.name),
        source_sha256=sha256,
        licence=seen["licence"],
        trained_on=told.get("trained_on", "unknown"),
        classes=len(tensors[head]),
        **{key: seen[key] for key in _SEEN},
    )
    return Published(tensors, origin, architecture.removeprefix(TIMM))


def from_project(folder: Path, architecture: str, licence: str) -> Published:
    """The model of a project like this one, from its models/ folder."""
    trained = load_trained(folder, recorded=False)
    info = trained.info
    description = read_json(folder / "model.json", "")
    if description["architecture"] != architecture:
        raise UserError(
            f"{folder}: a model of {description['architecture']}; expected the one that was named, {architecture}."
        )
    sha256 = _sha256(folder / "model.safetensors")
    origin = _origin(
        architecture=architecture,
        source=f"a project's models/model.safetensors, SHA-256 {sha256}",
        source_sha256=sha256,
        licence=licence,
        trained_on=f"{len(info.classes)} classes: {', '.join(info.classes[:10])}",
        classes=len(info.classes),
        mean=info.mean,
        std=info.std,
        interpolation="bicubic",
        image_size=info.image_size,
        crop_share=round(info.image_size / info.stored_size, 6),
    )
    return Published(dict(trained.network.state_dict()), origin, architecture.rpartition(":")[2].removeprefix(TIMM))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file or of a pickle without code. UserError where it is neither."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Name a .safetensors or .pth file.") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}). Get it again.") from None
    except pickle.UnpicklingError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{path}: holds more than tensors, such as code, which is not run; or it is damaged ({reason}). Ask for a "
            ".safetensors file."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a whole file of PyTorch ({str(error).splitlines()[0]}). Get it again.") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not (isinstance(content, dict) and all(isinstance(one, torch.Tensor) for one in content.values())):
        raise UserError(f"{path}: expected tensors by name, got something else. Save `model.state_dict()`.")
    return {str(key): tensor for key, tensor in content.items()}


def _seen_by(architecture: str) -> dict[str, Any]:
    """What the usual weights of a known architecture were trained to see; of others, nothing is known."""
    if architecture.startswith(TIMM):
        import timm

        cfg = timm.models.get_pretrained_cfg(architecture.removeprefix(TIMM))
        return _seen_by_timm(cfg) if cfg else {}
    if architecture in TORCHVISION_MODELS:
        from torchvision.models import get_model_weights

        return _seen_by_torchvision(get_model_weights(architecture).DEFAULT)
    return {}


def _seen_by_timm(cfg: Any) -> dict[str, Any]:
    return {
        "mean": list(cfg.mean),
        "std": list(cfg.std),
        "interpolation": cfg.interpolation,
        "image_size": cfg.input_size[-1],
        "crop_share": float(cfg.crop_pct),
    }


def _seen_by_torchvision(weights: Any) -> dict[str, Any]:
    transforms = weights.transforms()
    return {
        "mean": list(transforms.mean),
        "std": list(transforms.std),
        "interpolation": transforms.interpolation.value,
        "image_size": transforms.crop_size[0],
        "crop_share": round(min(1.0, transforms.crop_size[0] / transforms.resize_size[0]), 6),
    }


def _origin(**values: Any) -> Origin:
    try:
        return Origin.model_validate(json.loads(json.dumps(values)))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(
            f"weights: {'.'.join(map(str, problem['loc']))}: {problem['msg']}; got {problem['input']!r}."
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
