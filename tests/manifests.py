"""Manifests in memory."""

import hashlib
import string
from collections.abc import Iterable, Mapping

from review.data_changes import DataChanges, compare_manifests
from review.manifest import Manifest
from review.revision import MANIFEST_COLUMNS


def compare_rows(old: Iterable[Mapping[str, str]], new: Iterable[Mapping[str, str]]) -> DataChanges:
    """The changes between the rows of two manifests; `digest_of` makes a SHA-256 of what is none."""
    sides = [
        Manifest.of(
            [[(digest_of if name == "sha256" else str)(row[name]) for name in MANIFEST_COLUMNS] for row in rows]
        )
        for rows in (old, new)
    ]
    return compare_manifests(*sides)


def digest_of(text: str) -> str:
    """A SHA-256 that stands for `text`, which may be one, or empty."""
    is_digest = len(text) == 64 and set(text) <= set(string.hexdigits)
    return text if is_digest or not text else hashlib.sha256(text.encode()).hexdigest()
