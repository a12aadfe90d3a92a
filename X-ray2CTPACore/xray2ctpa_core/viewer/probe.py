"""The values under the cursor: HU, Grad-CAM, spread and difference of the voxels of a plane."""

import math
from typing import Any

import numpy as np
import slicer

from xray2ctpa_core import mrml
from xray2ctpa_core.viewer.display import Display
from xray2ctpa_core.viewer.slabs import in_slab, slices_beside


class Probe:
    """Reads the voxels of a result.

    Args:
        nodes: the result.
        bounds: (lowest, highest) RAS in mm of its voxel centres, by axis.

    Attributes:
        truth: (D, H, W) in HU, the true CTPA on the result's grid, during a comparison.
    """

    def __init__(self, nodes: mrml.ResultNodes, bounds: list[tuple[float, float]]) -> None:
        self._nodes, self._bounds = nodes, bounds
        self.truth: np.ndarray | None = None

    def values(self, place: tuple[float, float, float], axis: int, display: Display) -> dict[str, float]:
        """The values at ``place`` (RAS, mm) in a plane perpendicular to the RAS axis ``axis``; {} outside
        the volume.

        HU are those of the shown slab, all others those of the slice.
        """
        voxel = self._voxel(place)
        if voxel is None:
            return {}
        found = {"hu": self._in_slab(slicer.util.arrayFromVolume(self._nodes.ctpa), voxel, axis, display)}
        if self.truth is not None:
            truth = self._in_slab(self.truth, voxel, axis, display)
            if not math.isnan(truth):
                found |= {"truth": truth, "difference": found["hu"] - truth}
        found["gradcam"] = float(slicer.util.arrayFromVolume(self._nodes.gradcam)[voxel])
        if self._nodes.spread is not None:
            found["spread"] = float(slicer.util.arrayFromVolume(self._nodes.spread)[voxel])
        return found

    def _voxel(self, place: tuple[float, float, float]) -> tuple[int, int, int] | None:
        """(k, j, i) of the voxel at ``place``: i runs to the left, j to posterior, k to superior."""
        shape, indices = slicer.util.arrayFromVolume(self._nodes.ctpa).shape, []
        for axis, (at, (low, high)) in enumerate(zip(place, self._bounds, strict=True)):
            step = self._nodes.ctpa.GetSpacing()[axis]
            index = round((at - low) / step if axis == 2 else (high - at) / step)
            if not 0 <= index < shape[2 - axis]:
                return None
            indices.append(index)
        i, j, k = indices
        return k, j, i

    def _in_slab(self, array: Any, voxel: tuple[int, int, int], axis: int, display: Display) -> float:
        beside = slices_beside(display.slab_mm, self._nodes.ctpa.GetSpacing()[axis])
        across: list[Any] = list(voxel)
        across[2 - axis] = slice(None)
        return float(in_slab(array[tuple(across)], 0, voxel[2 - axis], beside, display.slab))
