"""Thick planes: volumes in which every voxel is the maximum, mean or minimum of those across its plane."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.mrml.display import slice_display
from xray2ctpa_core.viewer.display import Display

_REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {"maximum": np.max, "mean": np.mean, "minimum": np.min}


def slices_beside(slab_mm: float, spacing_mm: float) -> int:
    """Number of slices on each side of a plane that a slab of ``slab_mm`` includes, rounded."""
    return max(0, math.floor((slab_mm / spacing_mm - 1) / 2 + 0.5))


def in_slab(array: np.ndarray, axis: int, middle: int, beside: int, how: str) -> np.ndarray:
    """What a slab shows of ``array`` (D, H, W) at the index ``middle`` of its axis ``axis``.

    Args:
        array: the volume.
        axis, middle: the slice in the middle of the slab.
        beside: slices on each of its sides; fewer at the edge of the volume.
        how: of display.SLABS.

    Returns:
        Two axes; NaN where a voxel is.
    """
    across = [slice(None)] * array.ndim
    across[axis] = slice(max(0, middle - beside), middle + beside + 1)
    return _REDUCTIONS[how](array[tuple(across)], axis=axis)


def thickened(array: np.ndarray, axis: int, beside: int, how: str) -> np.ndarray:
    """(D, H, W) float32: ``in_slab`` of every slice."""
    slices = [in_slab(array, axis, middle, beside, how) for middle in range(array.shape[axis])]
    return np.stack(slices, axis).astype(np.float32)


class Slabs:
    """The volumes of thick planes: computed once for a thickness, when a plane is first drawn in it.

    A slab that Slicer samples anew for every picture takes as many times longer as it has slices. Overlays
    are those of the slice in the middle.

    Args:
        nodes: the result.
        truth: (D, H, W) in HU, NaN where it has no voxels; None without a comparison.
    """

    def __init__(self, nodes: mrml.ResultNodes, truth: np.ndarray | None) -> None:
        self._nodes, self._truth = nodes, truth
        self._kept: dict[tuple[Any, int], Any] = {}
        self._arrays: dict[tuple[bool, int], np.ndarray] = {}
        self._display = Display()

    def node(self, shown: Any, comparison: mrml.Comparison | None, axis: int, display: Display) -> Any:
        """The node that a plane shows in the place of ``shown``: itself, or a volume of thick slices.

        Args:
            shown: the generated CTPA's node, or one of ``comparison``.
            comparison: the nodes of the comparison, if there is one.
            axis: RAS axis across the plane.
            display: of it the slab.
        """
        beside = slices_beside(display.slab_mm, shown.GetSpacing()[axis])
        if beside == 0:
            return shown
        if (display.slab, display.slab_mm) != (self._display.slab, self._display.slab_mm):
            self.clear()
            self._display = display
        key = (shown.GetID(), axis)
        if key not in self._kept:
            self._kept[key] = self._made(shown, comparison, 2 - axis, beside)
        return self._kept[key]

    def clear(self) -> None:
        """Removes all volumes."""
        for node in self._kept.values():
            node.GetScene().RemoveNode(node)
        self._kept.clear()
        self._arrays.clear()

    def _made(self, shown: Any, comparison: mrml.Comparison | None, axis: int, beside: int) -> Any:
        array = self._array(False, axis, beside)
        if comparison is not None and shown is not self._nodes.ctpa:
            truth = self._array(True, axis, beside)
            if shown is comparison.truth:
                array = np.where(np.isnan(truth), np.float32(AIR_HU), truth)
            else:
                array = np.nan_to_num(array - truth, nan=0.0)
        node = shown.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{shown.GetName()}, slab")
        slicer.util.updateVolumeFromArray(node, array)
        node.CopyOrientation(shown)
        node.SetAndObserveDisplayNodeID(slice_display(shown).GetID())
        return node

    def _array(self, is_true: bool, axis: int, beside: int) -> np.ndarray:
        """The slabs (D, H, W) of the generated or the true CTPA along an axis of the array."""
        key = (is_true, axis)
        if key not in self._arrays:
            array = self._truth if is_true else slicer.util.arrayFromVolume(self._nodes.ctpa)
            assert array is not None, "a comparison has a truth"
            self._arrays[key] = thickened(array, axis, beside, self._display.slab)
        return self._arrays[key]
