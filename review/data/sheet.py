"""The pictures of the page, each once, and the cards that there is room for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from review.data.findings import Picture

# Pixels: of a card's own picture, and of those beside it.
LARGE, SMALL = 160, 96
# An image, of so many pixels at most, as an address that holds it.
Draw = Callable[[Picture, int], str]


class Sheet:
    """Pictures by their number. `large`: the SHA-256 of those that a card may be of; the others are small."""

    def __init__(self, draw: Draw, large: set[str]) -> None:
        self._draw = draw
        self._large = large
        self._numbers: dict[str, int] = {}
        self.pictures: list[Picture] = []
        self.uris: list[str] = []

    def number(self, picture: Picture) -> int:
        """Of a picture, which is drawn when it is asked for the first time."""
        if picture.sha256 not in self._numbers:
            self._numbers[picture.sha256] = len(self.pictures)
            self.pictures.append(picture)
            self.uris.append(self._draw(picture, LARGE if picture.sha256 in self._large else SMALL))
        return self._numbers[picture.sha256]

    def is_pixels(self, number: int) -> bool:
        """Whether a picture is so small that its pixels are to be seen."""
        return self.uris[number].startswith("data:image/png")

    def bytes_from(self, start: int) -> int:
        """What the pictures from this number take in the page, at most."""
        added = zip(self.pictures[start:], self.uris[start:], strict=True)
        return sum(len(uri) + 4 + len(json.dumps(picture)) for picture, uri in added)

    def keep(self, count: int) -> None:
        """Forget all but the first pictures."""
        for picture in self.pictures[count:]:
            del self._numbers[picture.sha256]
        del self.pictures[count:], self.uris[count:]


@dataclass
class Part:
    """A part of the page: what makes its cards, in order, and the markup of those that are shown. `weight`: how many of
    them get room before the other parts get some again."""

    name: str
    title: str
    about: str
    cards: Sequence[Callable[[Sheet], str]]
    weight: int = 1
    shown: list[str] = field(default_factory=list)


def fill(parts: Sequence[Part], sheet: Sheet, room: int) -> None:
    """Make cards in turn, until there are no more or the next one has no room in so many bytes."""
    waiting = [(part, iter(part.cards)) for part in parts]
    while waiting:
        waiting = [(part, rest) for part, rest in waiting if len(part.shown) < len(part.cards)]
        for part, rest in waiting:
            for make in islice(rest, part.weight):
                before = len(sheet.pictures)
                markup = make(sheet)
                room -= len(markup.encode()) + 1 + sheet.bytes_from(before)
                if room < 0:
                    sheet.keep(before)
                    return
                part.shown.append(markup)
