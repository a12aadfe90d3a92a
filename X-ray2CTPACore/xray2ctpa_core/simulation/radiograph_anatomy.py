"""One patient's radiograph as attenuation: a layered view, warped and placed, with limbs and disease."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from xray2ctpa_core.simulation.fields import smooth_field
from xray2ctpa_core.simulation.radiograph_layers import LAYER_MM, LAYERS, LayeredView

#: Width over height of the lungs' outline: mean and standard deviation in real radiographs (435 outlines of
#: the torchxrayvision package: median 1.22, 2-98 % 0.95-1.65).
LUNG_ASPECT = (1.22, 0.16)


@dataclass(frozen=True)
class Placement:
    """Position and shape of the lungs on the radiograph.

    Attributes:
        shape: (H, W) of the radiograph in pixels.
        fraction: the lungs' height over the radiograph's height.
        aspect: the lungs' width over their height.
        centre: (y, x) of the lungs' box on the radiograph, in shares of its height and width.
        angle: rotation in the image plane in degrees.
        taper: excess of the bases' width over that of the apices, as a share of the width.
        diaphragm: upward shift of the (right, left) diaphragm, as a share of the lungs' height.
        doming: upward shift of each dome's middle relative to its edges, as a share of the lungs' height.
    """

    shape: tuple[int, int]
    fraction: float
    aspect: float
    centre: tuple[float, float]
    angle: float
    taper: float
    diaphragm: tuple[float, float]
    doming: float = 0.0


def draw_placement(shape: tuple[int, int], rng: np.random.Generator) -> Placement:
    """Draws a usual placement: complete or nearly complete lungs on a radiograph of ``shape``."""
    aspect = float(np.clip(rng.normal(*LUNG_ASPECT), 0.88, 1.8))
    largest = min(1.0, shape[1] / shape[0] / aspect)
    fraction = largest * float(
        rng.uniform(0.98, 1.03) if rng.random() < 0.08 else rng.beta(3.5, 2.0) * 0.62 + 0.37
    )
    slack = np.array([max(0.02, 1 - fraction), max(0.02, 1 - fraction * aspect * shape[0] / shape[1])])
    centre = 0.5 + slack * rng.uniform(-0.5, 0.5, 2) * np.array([0.95, 0.85])
    return Placement(
        shape,
        fraction,
        aspect,
        centre=(float(centre[0]), float(centre[1])),
        angle=float(np.clip(rng.normal(0, 4), -13, 13)),
        taper=float(rng.normal(0.12, 0.12)),
        diaphragm=(float(rng.normal(0.0, 0.09)), float(rng.normal(0.0, 0.09))),
        doming=float(rng.normal(-0.03, 0.05)),
    )


def radiograph_coordinates(view: LayeredView, placement: Placement, rng: np.random.Generator) -> np.ndarray:
    """(2, H, W) layer pixel (row, column) of each radiograph pixel: the inverse of the warp."""
    top, left, bottom, right = view.lung_box()
    height, width = placement.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    y = (rows + 0.5 - placement.centre[0] * height) / (placement.fraction * height)
    x = (columns + 0.5 - placement.centre[1] * width) / (placement.fraction * height * placement.aspect)
    angle, ratio = np.deg2rad(placement.angle), placement.aspect
    x, y = (
        x * np.cos(angle) + y * np.sin(angle) / ratio,
        y * np.cos(angle) - x * np.sin(angle) * ratio,
    )
    x, y = (c + 0.012 * smooth_field(placement.shape, 6, rng) for c in (x, y))
    side = 1 / (1 + np.exp(-x / 0.06))
    lift = placement.diaphragm[0] * (1 - side) + placement.diaphragm[1] * side
    lift = lift + placement.doming * np.exp(-(((np.abs(x) - 0.24) / 0.13) ** 2))
    base = 0.5 - lift
    y = np.where(y < -0.1, y, np.where(y < base, -0.1 + (y + 0.1) * 0.6 / (base + 0.1), y + lift))
    x = x / (1 + placement.taper * np.clip(y, -0.6, 0.6))
    return np.stack(
        [(top + bottom) / 2 + y * (bottom - top), (left + right) / 2 + x * (right - left)]
    ).astype(np.float32)


def sample_layers(
    view: LayeredView, where: np.ndarray, rng: np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """The view's layers at radiograph pixels.

    Args:
        view: gives the layers.
        where: (2, H, W) layer pixel of each radiograph pixel.
        rng: with it, the body is continued above and beside the scan by random shoulders and a neck, and the
            bones are shifted a little relative to the lungs; without it, the scan's edge rows are repeated.
    """
    rows, columns = where
    last, width = view.layers.shape[1] - 1, view.layers.shape[2]
    column = np.clip(columns, 0, width - 1)
    bone_shift = 0.0 if rng is None else rng.normal(0, 4)
    sampled = {
        name: ndimage.map_coordinates(
            layer, [np.clip(rows - (bone_shift if name == "bone" else 0), 0, last), column], order=1
        )
        for name, layer in zip(LAYERS, view.layers, strict=True)
    }
    if rng is not None:
        kept = _shoulders_and_neck(rows, columns, width, rng)
        for name in ("solid", "bone"):
            sampled[name] = sampled[name] * kept
    for name in ("right", "left", "right_mm", "left_mm", "heart"):
        sampled[name] = np.where((rows < -1) | (rows > last + 1), 0, sampled[name])
    return sampled


def _shoulders_and_neck(
    rows: np.ndarray, columns: np.ndarray, width: int, rng: np.random.Generator
) -> np.ndarray:
    """(H, W) factor of the body's thickness: shoulders that slope from a neck, fading to the sides."""
    above = -rows * LAYER_MM
    aside = np.abs(columns - width / 2) * LAYER_MM
    slope, lift = rng.uniform(0.3, 2.0), rng.uniform(-10, 80)
    heights = [600, 400, *(lift + slope * np.array([55, 30, 8, -35, -100]))]
    shoulder = np.interp(aside, [0, 45, 65, 110, 160, 200, 250], heights)
    kept = 1 / (1 + np.exp(np.clip((above - shoulder) / rng.uniform(6, 16), -30, 30)))
    kept *= np.exp(-np.maximum(0, above) / np.where(aside < 55, 300, rng.uniform(60, 250)))
    beside = np.maximum(0, np.abs(columns - (width - 1) / 2) - (width - 1) / 2) * LAYER_MM
    return kept * np.exp(-((beside / rng.uniform(35, 80)) ** 2))


def attenuation(layers: dict[str, np.ndarray], where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in mm of water: the layers with random habitus, limbs, bones and disease."""
    image = layers["solid"] + rng.uniform(0.5, 1.5) * layers["bone"]
    opacity = _opacities(layers, rng)
    density = rng.uniform(0.5, 1.3)
    for side in ("right", "left"):
        aerated = layers[side] * density + layers[side + "_mm"] * rng.uniform(0.0, 0.12)
        image = image + aerated + opacity * np.maximum(0, layers[side + "_mm"] - aerated)
    image = image + _larger_heart(layers["heart"], rng)
    lung_mm = (layers["right_mm"] + layers["left_mm"]) > 5
    body = np.clip(layers["solid"] / 30, 0, 1)
    fat = rng.uniform(0, 1) ** 2 * 200
    height = image.shape[0]
    if fat > 5:
        image = image + fat * ndimage.gaussian_filter(body, height * rng.uniform(0.02, 0.08))
    image = image + _limbs_and_head(where, rng)
    if rng.random() < 0.75:
        image = image + body * _clavicles_and_shoulder_muscle(where, rng)
    if rng.random() < 0.4:
        image = image + _breasts(where, rng) * body
    if rng.random() < 0.6:
        image = np.where(lung_mm, image, _with_bowel_gas(image, where, rng))
    return image.astype(np.float32)


def _lung_units(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) in mm from the middle of the scan's columns and the scan's top row, at each radiograph pixel."""
    return where[0] * LAYER_MM, (where[1] - 64) * LAYER_MM


def _opacities(layers: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """(H, W) share of the lungs' air that is replaced: patches, a white lung, an effusion, diffuse haze."""
    shape = layers["solid"].shape
    opacity = np.zeros(shape, np.float32)
    if rng.random() < 0.35:
        opacity += rng.uniform(0, 0.5)
    for _ in range(rng.integers(0, 4) if rng.random() < 0.6 else 0):
        opacity += rng.uniform(0.2, 1) * _blob(shape, rng, 0.03, 0.16)
    both = np.stack([layers["right_mm"], layers["left_mm"]])
    if rng.random() < 0.12:
        side = both[rng.integers(2)] > 5
        opacity += rng.uniform(0.4, 1) * ndimage.gaussian_filter(side.astype(np.float32), 2)
    if rng.random() < 0.25:
        side = both[rng.integers(2)] > 5
        if side.any():
            rows, columns = np.nonzero(side)
            tall = rows.max() - rows.min()
            slope = rng.normal(0, 0.3)
            level = rows.max() - tall * rng.uniform(0.05, 0.5)
            y, x = np.mgrid[: shape[0], : shape[1]]
            wave = 1 / (1 + np.exp(-(y - level + slope * (x - columns.mean())) / (0.03 * tall + 1)))
            opacity += wave * side
    if rng.random() < 0.3:
        opacity += rng.uniform(0, 0.6) * np.clip(smooth_field(shape, 12, rng), 0, 1)
    return np.clip(opacity, 0, 1).astype(np.float32)


def _larger_heart(heart: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Additional attenuation of an enlarged heart, in mm of water."""
    if rng.random() < 0.5 or heart.max() <= 0:
        return np.zeros_like(heart)
    scale = rng.uniform(1.0, 1.5)
    centre = np.array(ndimage.center_of_mass(heart)) + rng.normal(0, 2, 2)
    larger = ndimage.affine_transform(heart, [1 / scale, 1 / scale], centre - centre / scale, order=1)
    return 0.8 * np.maximum(0, larger - heart)


def _blob(shape: tuple[int, ...], rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """(H, W) soft ellipse of random position and size, 0..1."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    cy, cx = rng.uniform(0.15, 0.85, 2)
    ry, rx = rng.uniform(least, most, 2)
    return np.exp(-((((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2) ** rng.choice([1, 2]))).astype(np.float32)


def _limbs_and_head(where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Arms at the sides and a jaw above, in mm of water."""
    y, x = _lung_units(where)
    image = np.zeros(y.shape, np.float32)
    for sign in (-1, 1):
        if rng.random() < 0.25:
            continue
        tilt = sign * rng.uniform(-0.05, 0.7)
        start = sign * rng.uniform(165, 200)
        radius = rng.uniform(32, 60)
        along = y - rng.uniform(0, 50)
        off = (x - start - tilt * along) / np.hypot(1, tilt)
        chord = 2 * np.sqrt(np.maximum(0, radius**2 - off**2))
        bone = rng.uniform(10, 14)
        shaft = np.sqrt(np.maximum(0, bone**2 - off**2)) - 0.8 * np.sqrt(
            np.maximum(0, (bone - 4) ** 2 - off**2)
        )
        reached = 1 / (1 + np.exp(-np.clip(along / 8, -30, 30)))
        image += (chord + 3 * shaft) * reached
    if rng.random() < 0.5:
        cy, cx = rng.uniform(-170, -90), rng.normal(0, 20)
        ry, rx = rng.uniform(50, 90), rng.uniform(55, 80)
        inside = np.maximum(0, 1 - ((y - cy) / ry) ** 2 - ((x - cx) / rx) ** 2)
        image += rng.uniform(120, 260) * np.sqrt(inside)
    return image


def _clavicles_and_shoulder_muscle(where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clavicles across the upper lungs at any height, and soft tissue that veils the apices, mm of water."""
    y, x = _lung_units(where)
    inner, outer = rng.uniform(25, 95), rng.uniform(-5, 70)
    radius, sag = rng.uniform(4, 8), rng.normal(0, 8)
    image = np.zeros(y.shape, np.float32)
    for sign in (-1, 1):
        t = np.clip((sign * x - 15) / 140, -0.2, 1.2)
        path = inner + rng.normal(0, 4) + (outer - inner) * t + sag * np.sin(2 * np.pi * t)
        off = (y - path) / np.hypot(1, (outer - inner) / 140)
        shaft = np.sqrt(np.maximum(0, radius**2 - off**2))
        image += rng.uniform(0.5, 2.5) * shaft * ((sign * x > 12) & (sign * x < 160))
    veil = 1 / (1 + np.exp(np.clip((y - rng.uniform(20, 75)) / rng.uniform(6, 20), -30, 30)))
    return image + rng.uniform(0, 70) * veil


def _breasts(where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two domes over the lower lung fields, in mm of water; one may be missing."""
    y, x = _lung_units(where)
    cy, cx, radius = rng.uniform(130, 230), rng.uniform(60, 100), rng.uniform(45, 85)
    image = np.zeros(y.shape, np.float32)
    for sign in (-1, 1):
        if rng.random() < 0.05:
            continue
        dy, dx = (y - cy - rng.normal(0, 6)) / radius, (x - sign * cx - rng.normal(0, 6)) / radius
        below = np.where(dy > 0, dy * rng.uniform(1.0, 1.6), dy)
        image += rng.uniform(15, 60) * np.sqrt(np.maximum(0, 1 - below**2 - dx**2))
    return image


def _with_bowel_gas(image: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with gas bubbles and mottle below the diaphragm."""
    y, x = _lung_units(where)
    result = image
    for _ in range(rng.integers(1, 7)):
        cy, cx = rng.uniform(205, 420), rng.normal(30, 80)
        ry, rx = rng.uniform(6, 28), rng.uniform(8, 50)
        inside = np.clip(1.6 - ((y - cy) / ry) ** 2 - ((x - cx) / rx) ** 2, 0, 1)
        result = result - rng.uniform(0.1, 0.75) * 60 * inside * (image > 60)
    return result
