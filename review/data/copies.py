"""Images that show the same, by their features: saved again, cut, brightened, mirrored, or a burst of one scene.

prepare compares pixels, and misses what was cut by more than 3 % or turned. A network that knows photographs sees the
same thing there. What it cannot tell from a copy, such as two leaves of a herbarium, it finds as well: look at them.
"""

from collections.abc import Sequence

import numpy as np

from review.data.findings import Copies, Picture
from review.data.neighbours import Neighbourhood

# Cosine of standardised features. Measured on photographs of ants and bees: `python -m benchmarks.strangers`.
ALIKE = 0.65
# Where all images are alike, such as digits, the nearest neighbour is as near as a copy elsewhere. A copy is nearer
# than this share of the distance at which half of the images have their fifth neighbour: that is none of a few copies.
_NEARER, _FIFTH = 0.45, 5


def limit(near: Neighbourhood) -> float:
    """The likeness from which two images are called copies."""
    if near.likeness.shape[1] < _FIFTH:
        return ALIKE
    fifth = np.sort(near.likeness, axis=1)[:, -_FIFTH]
    return max(ALIKE, 1 - _NEARER * (1 - float(np.median(fifth))))


def all_alike(near: Neighbourhood) -> bool:
    """Whether half of the images have one that would be a copy elsewhere."""
    return bool(near.likeness.size) and float(np.median(near.likeness.max(1))) >= ALIKE


def copies(near: Neighbourhood, pictures: Sequence[Picture], groups: Sequence[str]) -> list[Copies]:
    """Pairs across two splits first, then the likest. Of many images that show the same, each is named with another
    one, not with all. Images of one group are expected to be alike, and in one split: they are not named."""
    if not near.rows.size:
        return []
    least = limit(near)
    first, place = np.nonzero(near.likeness >= least)
    second = near.rows[first, place]
    pairs = {
        (min(one, other), max(one, other)): likeness
        for one, other, likeness in zip(
            first.tolist(), second.tolist(), near.likeness[first, place].tolist(), strict=True
        )
        if not groups[one] or groups[one] != groups[other]
    }
    ordered = sorted(pairs, key=lambda pair: (pictures[pair[0]].split == pictures[pair[1]].split, -pairs[pair], pair))
    # A forest that spans the pairs (Kruskal, 1956): m images that show the same are m - 1 pairs.
    tree = list(range(len(pictures)))
    found = []
    for one, other in ordered:
        roots = _root(tree, one), _root(tree, other)
        if roots[0] != roots[1]:
            tree[roots[1]] = roots[0]
            found.append(Copies(pictures[one], pictures[other], pairs[one, other]))
    return found


def _root(tree: list[int], row: int) -> int:
    while tree[row] != row:
        tree[row] = tree[tree[row]]
        row = tree[row]
    return row
