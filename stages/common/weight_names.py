"""Names of pretrained weights: a label, and the first digits of the file's SHA-256."""

import re

# So many that nobody makes other weights of the same name: 64 bits.
DIGITS = 16
_NAME = re.compile(rf"\w[\w.-]*-([0-9a-f]{{{DIGITS}}})")


def why_no_weights(name: str) -> str:
    """Why `name` cannot be one of weights; an empty text where it can."""
    if _NAME.fullmatch(name):
        return ""
    return f"'' or a name that ends in {DIGITS} hexadecimal digits, as `python -m scripts.get_weights` prints it"


def digits_of(name: str) -> str:
    """The digits at the end of a name. ValueError where it is none."""
    if not (matched := _NAME.fullmatch(name)):
        raise ValueError(why_no_weights(name))
    return matched[1]
