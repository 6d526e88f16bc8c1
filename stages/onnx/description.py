"""What an exported model says of itself, in its metadata: all that is needed to use it, and what it was made of."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from stages.common.documents import DocumentError, parse_json
from stages.common.names import why_no_class

# The key in the file's metadata.
KEY = "description"
# The files of the model, by their names in its folder.
MADE_OF = ("model.json", "model.safetensors")


@dataclass(frozen=True)
class Description:
    """Class names in label order; channels, the side that the network sees and the one of the images it is given, and
    how pictures become square; whether the logits are the mean of those for an image and its mirror image; the opset of
    the graph, the versions of the packages that wrote it, and the SHA-256 of model.json and model.safetensors, of which
    it was made; `pretrained`: where the weights that training began with come from, with their licence, if there were
    any."""

    architecture: str
    classes: list[str]
    channels: int
    image_size: int
    stored_size: int
    resize: str
    tta_flip: bool
    opset: int
    versions: dict[str, str]
    sha256: dict[str, str]
    pretrained: dict[str, Any] | None

    def to_json(self) -> str:
        """The same description gives the same text."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Description":
        """What `to_json` wrote. Raises DocumentError."""
        content = parse_json(text.encode())
        if not isinstance(content, dict):
            raise DocumentError(f"expected an object, got {type(content).__name__}")
        names = {field.name for field in fields(cls)}
        if content.keys() != names:
            wrong = ", ".join(sorted(map(repr, content.keys() ^ names)))
            raise DocumentError(f"keys: missing, or of a later version of the project: {wrong}")
        _require_valid(content)
        return cls(**content)


def _require_valid(content: Mapping[str, Any]) -> None:
    """DocumentError where a value is not of the type and the range that the fields of Description have."""
    classes, pretrained = content["classes"], content["pretrained"]
    if not (isinstance(classes, list) and len(classes) > 1 and all(isinstance(name, str) for name in classes)):
        raise DocumentError(f"classes: expected two names or more, got {classes!r}")
    if reasons := [f"{name!r}: {reason}" for name in classes if (reason := why_no_class(name))]:
        raise DocumentError(f"classes: {reasons[0]}")
    if len(set(classes)) < len(classes):
        raise DocumentError("classes: expected each name once")
    for key in ("channels", "image_size", "stored_size", "opset"):
        if type(content[key]) is not int or content[key] < 1:
            raise DocumentError(f"{key}: expected an integer from 1, got {content[key]!r}")
    if content["channels"] not in (1, 3):
        raise DocumentError(f"channels: expected 1 or 3, got {content['channels']}")
    if content["stored_size"] < content["image_size"]:
        raise DocumentError(f"stored_size: expected {content['image_size']} or more, got {content['stored_size']}")
    for key in ("architecture", "resize"):
        if not isinstance(content[key], str):
            raise DocumentError(f"{key}: expected a text, got {content[key]!r}")
    if type(content["tta_flip"]) is not bool:
        raise DocumentError(f"tta_flip: expected true or false, got {content['tta_flip']!r}")
    for key in ("versions", "sha256"):
        texts = content[key]
        if not (isinstance(texts, dict) and all(isinstance(text, str) for text in (*texts, *texts.values()))):
            raise DocumentError(f"{key}: expected texts by name, got {texts!r}")
    if content["sha256"].keys() != set(MADE_OF):
        raise DocumentError(f"sha256: expected those of {', '.join(MADE_OF)}, got {', '.join(content['sha256'])}")
    if pretrained is not None and not isinstance(pretrained, dict):
        raise DocumentError(f"pretrained: expected an object or null, got {pretrained!r}")
