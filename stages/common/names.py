"""Which names of files, folders and classes are taken: they end up in tables, pages and terminals."""

import os
import unicodedata

# Unicode's property Bidi_Control: they make a name read in another order than it is stored.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cs": "not UTF-8",  # how Python keeps such bytes of a file name (PEP 383)
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
# Where Git and DVC keep settings, with the short names that Windows gives them.
_SETTINGS = {".git", ".dvc", "git~1", "dvc~1"}


def is_printable(character: str) -> bool:
    """Whether a character may go to a terminal and into a page as it is: it moves nothing, ends no line, and hides or
    turns round nothing that stands beside it."""
    return unicodedata.category(character) not in _REFUSED_CATEGORIES and character not in _BIDIRECTIONAL


def why_not_text(text: str) -> str:
    """What a text holds that UTF-8 cannot; empty where it is Unicode text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"U+{ord(text[error.start]):04X}, which UTF-8 does not have"
    return ""


def normal(text: str) -> str:
    """A name, or a path, in the form in which it is compared and kept: Unicode's NFC. macOS and archives made there
    give names in NFD, in which an accented letter is two characters."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def why_refused(name: str) -> str:
    """What a name, or a path, holds that none may hold, as `U+0085, a control character`; empty where it may stay.

    Control characters and separators end a line for one reader of a table and not for another, bidirectional controls
    make a name read as another, and `<` opens a tag in pages that escape nothing, such as that of `dvc plots show`.
    """
    if name.isascii() and name.isprintable() and "<" not in name:
        return ""  # most names, and there may be millions
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


def why_not_within(path: str) -> str:
    """Why a path may not be that of a file below some folder; empty where it may: relative, in POSIX form, with no way
    out of the folder, and not in one where Git or DVC keeps settings."""
    if reason := why_refused(path):
        return f"it has {reason}"
    if "\\" in path:
        return "it has a backslash, which some systems take for a slash"
    for name in path.split("/"):
        if name in ("", ".", ".."):
            return "expected a relative path without empty names, `.` and `..`"
        # As file systems see it that ignore case, format characters (Unicode's category Cf) or what follows a colon.
        plain = name if name.isascii() else "".join(c for c in name if unicodedata.category(c) != "Cf")
        if plain.casefold().split(":")[0].rstrip(". ") in _SETTINGS:
            return "it leads into a folder in which Git or DVC keeps settings"
        if len(os.fsencode(name)) > 255:
            return "it has a name of more than 255 bytes"
    return "it has more than 3,000 bytes" if len(os.fsencode(path)) > 3000 else ""
