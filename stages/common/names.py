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
# Zero-width (non-)joiners and variation selectors: Persian, Hindi and others, and emoji, are written with them.
_JOINERS = frozenset(map(chr, (0x200C, 0x200D, *range(0xFE00, 0xFE10))))
# Unicode's property Default_Ignorable_Code_Point without category Cf: letters that nothing is drawn for.
_NOT_DRAWN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
# Letters of other scripts that are drawn as Latin ones in most fonts (Unicode Technical Standard 39, confusables).
_DRAWN_ALIKE = str.maketrans(
    "АВЕІЈКМНОРСТУХЅѴаеіјорсухѕѵһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧονіı",
    "ABEIJKMHOPCTYXSVaeijopcyxsvhdqwABEZHIKMNOPTYXovii",
)
_MAX_CLASS_BYTES = 255
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


def why_no_class(name: str) -> str:
    """What a class name has that none may have, beside `why_refused`: more bytes than a folder's name, or characters
    that are not seen; empty where it may stay."""
    if reason := why_refused(name):
        return reason
    if (length := len(name.encode())) > _MAX_CLASS_BYTES:
        return f"{length:,} bytes; at most {_MAX_CLASS_BYTES}, as for a folder's"
    for place, character in enumerate(name):
        if _is_invisible(character) and not (character in _JOINERS and place and not name[place - 1].isascii()):
            return f"U+{ord(character):04X}, which is not seen"
    return ""


def look(name: str) -> str:
    """What two names have in common that a person takes for one: they differ in case, spaces, the form of a character,
    what is not seen, or letters of another script."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if not _is_invisible(c))
    return " ".join(seen.translate(_DRAWN_ALIKE).casefold().split())


def shortened(name: str, most: int = 80) -> str:
    """A name for a message, of which the first `most` characters are enough."""
    return name if len(name) <= most else f"{name[:most]}…"


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character in _JOINERS or character in _NOT_DRAWN


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
