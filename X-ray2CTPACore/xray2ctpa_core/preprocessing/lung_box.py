"""Lung masks of a radiograph -> the lungs' box and how plausible they are as lungs. Numpy and scipy only."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xray2ctpa_core.preprocessing.cut_edge import cut_probabilities
from xray2ctpa_core.preprocessing.mediastinum import Mediastinum, between_lungs

#: The locator's classes.
FRONTAL, OTHER_VIEW, NOT_A_RADIOGRAPH = 0, 1, 2
CLASS_NAMES = (
    "an upright frontal chest radiograph",
    "another or incomplete view (a lateral, an abdomen, a part of a chest)",
    "not a chest radiograph",
)

#: Share of each lung's pixels that an edge of its box may leave out: thin spurs do not move the box.
EDGE_SHARE = 0.004
#: Most room that counts at an edge, also of one beyond which the radiograph may go on.
MOST_ROOM = 0.3


@dataclass(frozen=True)
class LungShape:
    """What the masks say, in pixels of the masks' grid.

    Attributes:
        box: (top, left, bottom, right) of both lungs, or None where none was found.
        areas: share of the grid covered by the lung on the image's left and on its right.
        heights: height of each lung over the box's height, 0 where missing.
        aspect: width over height of the box, 0 where there is none.
        contact: share of the box's side along which lung runs into the image's (top, left, bottom, right)
            edge; 0 where the radiograph shows what lies beyond the lungs.
        cut: probability that the lungs are cut off at the radiograph's (top, left, bottom, right).
        tilt_degrees: mean angle of both lungs' long axes with the vertical, counter-clockwise; 0 where one
            lung is missing.
        room: sum of the box's distances from the radiograph's four edges over the box's longer side, each at
            most MOST_ROOM.
        mediastinum: None where one lung is missing.
    """

    box: tuple[float, float, float, float] | None
    areas: tuple[float, float]
    heights: tuple[float, float]
    aspect: float
    contact: tuple[float, float, float, float]
    cut: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    tilt_degrees: float = 0.0
    room: float = 4 * MOST_ROOM
    mediastinum: Mediastinum | None = None


def largest_component(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest connected region, holes filled; empty for an empty mask."""
    regions, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    return ndimage.binary_fill_holes(regions == largest)


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """(top, left, bottom, right) that leaves out EDGE_SHARE of the mask's pixels at each edge, or None."""
    if not mask.any():
        return None
    edges = []
    for profile in (mask.sum(1), mask.sum(0)):
        share = np.concatenate([[0.0], np.cumsum(profile) / profile.sum()])
        at = np.arange(len(share))
        inner = np.flatnonzero(profile)
        keep = slice(int(inner[0]), int(inner[-1]) + 2)
        edges.append(np.interp([EDGE_SHARE, 1 - EDGE_SHARE], share[keep], at[keep]))
    (top, bottom), (left, right) = edges
    return float(top), float(left), float(bottom), float(right)


def lung_shape(
    masks: np.ndarray, content: tuple[float, float, float, float] | None = None, least_area: float = 0.004
) -> LungShape:
    """Box and features of two lung masks.

    Args:
        masks: (2, H, W) bool; lung on the image's left, lung on the image's right.
        content: (top, left, bottom, right) of the image in the grid; the whole grid if None. An edge beyond
            the grid is touched by nothing.
        least_area: a lung covering a smaller share of the grid counts as missing.
    """
    lungs = [largest_component(m) for m in masks]
    areas = (float(lungs[0].mean()), float(lungs[1].mean()))
    boxes = [mask_box(m) if a >= least_area else None for m, a in zip(lungs, areas, strict=True)]
    found = [b for b in boxes if b is not None]
    if not found:
        return LungShape(None, areas, (0.0, 0.0), 0.0, (0.0, 0.0, 0.0, 0.0))
    array = np.array(found)
    box = (*array[:, :2].min(0), *array[:, 2:].max(0))
    top, left, bottom, right = (float(v) for v in box)
    heights = tuple(0.0 if b is None else (b[2] - b[0]) / (bottom - top) for b in boxes)
    aspect = (right - left) / (bottom - top)
    edges = content or (0.0, 0.0, float(masks.shape[1]), float(masks.shape[2]))
    contact = edge_contact(lungs[0] | lungs[1], edges, (right - left, bottom - top))
    tilt = float(np.mean([_tilt(m) for m in lungs])) if len(found) == len(lungs) else 0.0
    return LungShape(
        (top, left, bottom, right),
        areas,
        (heights[0], heights[1]),
        aspect,
        contact,
        cut_probabilities(lungs[0] | lungs[1], edges),
        tilt,
        _room((top, left, bottom, right), edges),
        between_lungs(lungs, (top, left, bottom, right)) if len(found) == len(lungs) else None,
    )


def _room(box: tuple[float, float, float, float], edges: tuple[float, float, float, float]) -> float:
    """See LungShape."""
    inward = np.array(box) - np.array(edges)
    distances = np.concatenate([inward[:2], -inward[2:]]) / max(box[2] - box[0], box[3] - box[1])
    return float(np.clip(distances, None, MOST_ROOM).sum())


def _tilt(mask: np.ndarray) -> float:
    """Angle in degrees of the long axis of ``mask`` (H, W) with the vertical, counter-clockwise."""
    rows, columns = np.nonzero(mask)
    _, axes = np.linalg.eigh(np.cov(np.stack([columns, rows])))
    across, down = axes[:, 1] * (1 if axes[1, 1] >= 0 else -1)
    return float(np.degrees(np.arctan2(across, down)))


def edge_contact(
    lungs: np.ndarray, content: tuple[float, float, float, float], sides: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Share of the box's (width, height) ``sides`` along which ``lungs`` (H, W) run into each edge."""
    height, width = lungs.shape
    top, left = (np.ceil(v - 0.5) for v in content[:2])
    bottom, right = (np.floor(v + 0.5) - 1 for v in content[2:])
    contact = [
        float(np.take(lungs, int(line), axis).sum() / side) if 0 <= line < length else 0.0
        for line, axis, length, side in (
            (top, 0, height, sides[0]),
            (left, 1, width, sides[1]),
            (bottom, 0, height, sides[0]),
            (right, 1, width, sides[1]),
        )
    ]
    return contact[0], contact[1], contact[2], contact[3]
