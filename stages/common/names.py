"""Which names of files, folders and classes are taken: they end up in tables, pages and terminals."""

import unicodedata

# Unicode's property Bidi_Control: they make a name read in another order than it is stored.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cs": "not UTF-8",  # how Python keeps such bytes of a file name (PEP 383)
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}


def why_refused(name: str) -> str:
    """What a name, or a path, holds that none may hold, as `U+0085, a control character`; empty where it may stay.

    Control characters and separators end a line for one reader of a table and not for another, bidirectional controls
    make a name read as another, and `<` opens a tag in pages that escape nothing, such as that of `dvc plots show`.
    """
    for character in name:
        reason = _REFUSED_CATEGORIES.get(unicodedata.category(character), "")
        if character in _BIDIRECTIONAL:
            reason = "a bidirectional control"
        if character == "<":
            reason = "which opens a tag in HTML"
        if reason:
            shown = "<" if character == "<" else f"U+{ord(character):04X}"
            return f"{shown}, {reason}"
    return ""
