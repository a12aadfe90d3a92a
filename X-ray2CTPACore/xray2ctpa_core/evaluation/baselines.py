"""The baselines: the mean volume of other patients, and the volume of the nearest other radiograph."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from xray2ctpa_core.config import replacing
from xray2ctpa_core.errors import InputError

#: Side of the frame image in which radiographs are compared.
INDEX_PIXELS = 32


class Known(Protocol):
    """A case with known volume and radiograph: a virtual patient, a person or a study."""

    @property
    def hu(self) -> np.ndarray:
        """(D, H, W) HU."""

    def frame_image(self, size: int) -> np.ndarray:
        """(size, size): the radiograph's frame, as for the networks."""

    def fresh(self) -> "Known":
        """A copy without the large data that were read so far."""


K = TypeVar("K", bound=Known)


class Baselines(Generic[K]):
    """Both baselines, made from known cases.

    Args:
        known: at least one; their volumes share one grid.
        identity: of all cases; identifies the cache's content.
        cache: .npz file of the mean and the index; it is made anew if it is of other cases.
        progress: called with (read, of).

    Attributes:
        mean: (D, H, W) float32 HU.
    """

    def __init__(
        self,
        known: Sequence[K],
        identity: str = "",
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not known:
            raise InputError("The baselines need at least one patient, got none.")
        self._known = list(known)
        name = f"{identity} {INDEX_PIXELS}"
        kept = _read_cache(cache, name)
        if kept is None:
            kept = _measure(known, progress)
            if cache is not None:
                with replacing(cache) as partial:
                    np.savez(partial, identity=np.array(name), mean=kept[0], index=kept[1])
        self.mean, self._index = kept

    def nearest(self, image: np.ndarray) -> K:
        """The case whose frame image has the highest correlation with ``image``; the first of equal ones.

        Args:
            image: (INDEX_PIXELS, INDEX_PIXELS) frame image.
        """
        return self._known[int(np.argmax(self._index @ _normalised(image)))]


def _measure(
    known: Sequence[Known], progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean HU (D, H, W) float32, and (N, INDEX_PIXELS^2) normalised frame images."""
    total = np.zeros((), dtype=np.float64)
    index = []
    for number, one in enumerate(known, start=1):
        fresh = one.fresh()
        total = total + fresh.hu
        index.append(_normalised(fresh.frame_image(INDEX_PIXELS)))
        if progress is not None:
            progress(number, len(known))
    return (total / len(known)).astype(np.float32), np.stack(index)


def _normalised(image: np.ndarray) -> np.ndarray:
    """Flattened, with zero mean and unit length, so that a dot product is Pearson's correlation."""
    values = image.astype(np.float64).ravel() - image.mean()
    norm = np.linalg.norm(values)
    return values / norm if norm > 0 else values


def _read_cache(cache: Path | None, identity: str) -> tuple[np.ndarray, np.ndarray] | None:
    if cache is None or not cache.is_file():
        return None
    with np.load(cache, allow_pickle=False) as kept:
        if str(kept["identity"]) != identity:
            return None
        return kept["mean"], kept["index"]
