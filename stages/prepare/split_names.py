"""Folders' names that say a split, as data sets on the web have them: Training, valid, test_images, train2017."""

import re
from collections.abc import Collection

_WORDS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "valset": "val",
    "test": "test",
    "testing": "test",
    "testset": "test",
}
# What may stand beside such a word and says nothing more.
_FILLERS = {"set", "data", "dataset", "split", "folder", "image", "images", "img", "imgs", "photos", "pictures"}


def split_named(name: str) -> str:
    """The split that a name says, and nothing else: train, val or test; empty where it says none or more."""
    words = [word for word in _words(name) if word not in _FILLERS]
    return _WORDS.get(words[0], "") if len(words) == 1 else ""


def splits_within(names: Collection[str]) -> dict[str, str]:
    """The split of each name, such as seg_train and seg_test, where each has one word for another split; else empty."""
    found = {name: {_WORDS[word] for word in _words(name) if word in _WORDS} for name in names}
    splits = {name: min(of_name) for name, of_name in found.items() if len(of_name) == 1}
    return splits if len(splits) == len(names) == len(set(splits.values())) else {}


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.casefold())
