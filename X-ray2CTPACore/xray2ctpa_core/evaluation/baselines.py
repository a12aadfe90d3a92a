"""What a model must beat: the mean training volume and the volume of the nearest training radiograph."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.patients import CohortPatient, group_identity

#: Side of the frame image in which radiographs are compared.
INDEX_PIXELS = 32


class Baselines:
    """Both baselines over the training patients.

    Args:
        patients: training patients; at least one.
        cache: .npz file that keeps the mean and the index; one of other patients is made anew.
        progress: called with (patients read, of).
    """

    def __init__(
        self,
        patients: Sequence[CohortPatient],
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if not patients:
            raise InputError("The baselines need at least one training patient, got none.")
        self._folders = [patient.folder for patient in patients]
        identity = f"{group_identity(patients)} {INDEX_PIXELS}"
        kept = _read_cache(cache, identity)
        if kept is None:
            kept = _measure(patients, progress)
            if cache is not None:
                cache.parent.mkdir(parents=True, exist_ok=True)
                partial = cache.with_name("partial-" + cache.name)
                np.savez(partial, identity=np.array(identity), mean=kept[0], index=kept[1])
                partial.replace(cache)
        self.mean, self._index = kept

    def nearest(self, image: np.ndarray) -> CohortPatient:
        """The training patient whose radiograph's frame correlates best with ``image``.

        Args:
            image: (INDEX_PIXELS, INDEX_PIXELS) frame image.
        """
        return CohortPatient(self._folders[int(np.argmax(self._index @ _normalised(image)))])


def _measure(
    patients: Sequence[CohortPatient], progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean HU (D, H, W) float32, and (N, INDEX_PIXELS^2) normalised frame images."""
    total: np.ndarray | None = None
    index = []
    for number, patient in enumerate(patients, start=1):
        fresh = CohortPatient(patient.folder)  # forgets its voxels at once
        total = fresh.hu.astype(np.float64) if total is None else total + fresh.hu
        index.append(_normalised(fresh.frame_image(INDEX_PIXELS)))
        if progress is not None:
            progress(number, len(patients))
    assert total is not None
    return (total / len(patients)).astype(np.float32), np.stack(index)


def _normalised(image: np.ndarray) -> np.ndarray:
    """Flat, zero mean, unit length: a dot product is then Pearson's correlation."""
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
