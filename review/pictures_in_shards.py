"""The images of a split of a revision that lie in shards, where all of these are on this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from review.revision import Malformed, Missing, Revision
from stages.common import shards

_REMEDY = "`dvc repro prepare` makes it."


class PicturesInShards:
    """Decoded one by one, as uint8 H×H×3. Raises Missing where a shard is not on this machine, Malformed where the
    places or a shard are not what prepare writes."""

    def __init__(self, revision: Revision, split: str, places: np.ndarray, find: Callable[[str], Path]) -> None:
        """`find`: where on this machine a file of prepared/ is; raises Missing."""
        self._revision = revision
        self._places = places
        path = f"prepared/{split}-images.npy"
        try:
            sizes = shards.bytes_of_shards(places)
        except shards.ShardError as error:
            raise Malformed(f"{path}: {error} in {revision}. {_REMEDY}") from None
        self._names = [f"prepared/{name}" for name in shards.names_of(split, _names(revision))]
        if len(self._names) != len(sizes):
            raise Malformed(
                f"{path}: of {len(sizes):,} shards in {revision}, which has {len(self._names):,}. {_REMEDY}"
            )
        self._files = [find(name) for name in self._names]
        for name, file, size in zip(self._names, self._files, sizes, strict=True):
            found = _size(file, name, revision)
            if found != size:
                raise Malformed(f"{name}: {found:,} bytes in {revision}; expected {size:,}. {_REMEDY}")
        # All images of a split are alike.
        self.shape = (len(places), *(self[0].shape if len(places) else (0, 0, 3)))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> np.ndarray:
        shard, offset, size = self._places[place].item()
        try:
            with self._files[shard].open("rb") as stream:
                stream.seek(offset)
                return shards.decode(stream.read(size), 3)
        except (shards.ShardError, OSError) as error:
            raise Malformed(f"{self._names[shard]}: image {place}: {error}, in {self._revision}. {_REMEDY}") from None


def _names(revision: Revision) -> Sequence[str]:
    """Paths below prepared/."""
    folder = Path("prepared")
    if revision.commit is None and (folder / shards.FOLDER).is_dir():
        return [path.relative_to(folder).as_posix() for path in (folder / shards.FOLDER).iterdir()]
    return [path.removeprefix("prepared/") for path in revision.listing("prepared")]


def _size(file: Path, name: str, revision: Revision) -> int:
    try:
        return file.stat().st_size
    except OSError:
        raise Missing(f"{name}: of {revision}, not on this machine. `dvc fetch` brings it there.") from None
