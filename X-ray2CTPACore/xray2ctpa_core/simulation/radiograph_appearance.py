"""Attenuation to radiograph: exposure, processing, devices, letters, collimation, borders, compression."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from xray2ctpa_core.simulation.fields import smooth_field

_LETTERS = ("L", "R", "AP", "PA", "PORTABLE", "SUPINE", "ERECT", "(L)", "(R)", "15:42", "L  PA", "MOBILE")


def expose(attenuation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Attenuation (H, W) in mm of water -> grey in [0, 1], bright = attenuating, by random processing."""
    size = max(attenuation.shape)
    image = attenuation / 100
    if rng.random() < 0.5:
        image = ndimage.gaussian_filter(image, rng.uniform(0.2, 1.0))
    if rng.random() < 0.6:
        image = image - rng.uniform(0, 0.75) * ndimage.gaussian_filter(image, size * rng.uniform(0.04, 0.25))
    if rng.random() < 0.4:
        fine = image - ndimage.gaussian_filter(image, size * rng.uniform(0.008, 0.03))
        image = image + rng.uniform(0.3, 2.5) * fine
    image = image + rng.exponential(0.07) * np.ptp(image) * smooth_field(image.shape, 3, rng)
    low, high = np.quantile(image, [rng.uniform(0, 0.12), rng.uniform(0.88, 1.0)])
    grey = np.clip((image - low) / max(high - low, 1e-3), 0, 1)
    grey = grey ** np.exp(rng.normal(0, 0.5))
    if rng.random() < 0.3:
        slope, middle = rng.uniform(4, 9), rng.uniform(0.3, 0.7)
        grey = 1 / (1 + np.exp(-slope * (grey - middle)))
    if rng.random() < 0.25:
        grey = _local_contrast(grey, size * rng.uniform(0.05, 0.2), rng.uniform(0.2, 0.8))
    noise = rng.normal(0, 1, grey.shape)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, 0.7) * 2
    return np.clip(grey + rng.exponential(0.015 if rng.random() < 0.15 else 0.003) * noise, 0, 1).astype(
        np.float32
    )


def furnish(grey: np.ndarray, rng: np.random.Generator, lungs: np.ndarray | None = None) -> np.ndarray:
    """Adds objects and artefacts: lines, devices, letters, collimation, borders, compression.

    Args:
        grey: (H, W) float32 in [0, 1].
        rng: draws all of it.
        lungs: (H, W) bool; covered margins hardly enter their box.
    """
    picture = Image.fromarray((grey * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.5:
        _draw_devices(draw, picture.size, rng)
    if rng.random() < 0.6:
        _write_letters(draw, picture.size, rng)
    result = np.asarray(picture, dtype=np.float32) / 255
    if rng.random() < 0.45:
        result = _collimate(result, _gaps(result.shape, lungs), rng)
    if rng.random() < 0.15:
        result = _collimate(result, _gaps(result.shape, lungs), rng)
    if rng.random() < 0.4:
        result = _compress(result, int(rng.integers(25, 90)))
    return result


def _local_contrast(grey: np.ndarray, sigma: float, share: float) -> np.ndarray:
    """Blend with the locally standardised image, similar to adaptive equalisation."""
    mean = ndimage.gaussian_filter(grey, sigma)
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter((grey - mean) ** 2, sigma), 1e-4))
    return np.clip((1 - share) * grey + share * (0.5 + 0.22 * (grey - mean) / spread), 0, 1)


def _draw_devices(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Tubes and wires as smooth lines, a generator box, electrodes, clips."""
    width, height = size
    for _ in range(rng.integers(0, 5)):
        knots = rng.uniform(0, 1, (4, 2)) * (width, height)
        t = np.linspace(0, 1, 24)[:, None]
        curve = (
            (1 - t) ** 3 * knots[0] + 3 * (1 - t) ** 2 * t * knots[1]
            + 3 * (1 - t) * t**2 * knots[2] + t**3 * knots[3]
        )  # fmt: skip
        draw.line([tuple(p) for p in curve], fill=int(rng.integers(120, 256)), width=int(rng.integers(1, 3)))
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(0, 1, 2) * (width, height)
        r = rng.uniform(0.008, 0.05) * width
        fill = int(rng.integers(170, 256)) if rng.random() < 0.6 else None
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=int(rng.integers(150, 256)))


def _write_letters(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Side letters and words near the edges."""
    width, height = size
    for _ in range(rng.integers(1, 4)):
        text = _LETTERS[rng.integers(len(_LETTERS))]
        font = ImageFont.load_default(size=float(rng.uniform(0.025, 0.08) * height))
        near = rng.uniform(0.0, 0.22)
        x = (near if rng.random() < 0.5 else 1 - near) * width
        draw.text(
            (x, rng.uniform(0, 0.95) * height), text, fill=int(rng.integers(200, 256)), font=font, anchor="mm"
        )


def _gaps(shape: tuple[int, ...], lungs: np.ndarray | None) -> tuple[float, float, float, float]:
    """Distances (left, right, top, bottom) from the radiograph's edges to the lungs, as shares of its
    sides."""
    if lungs is None or not lungs.any():
        return (0.1, 0.1, 0.1, 0.1)
    rows, columns = np.flatnonzero(lungs.any(1)), np.flatnonzero(lungs.any(0))
    height, width = shape
    return (
        float(columns[0] / width),
        float(1 - columns[-1] / width),
        float(rows[0] / height),
        float(1 - rows[-1] / height),
    )


def _collimate(
    grey: np.ndarray, gaps: tuple[float, float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Covers margins in black, grey or white, with straight or slanted, sharp or soft edges, not quite
    opaquely."""
    height, width = grey.shape
    y, x = np.mgrid[:height, :width]
    y, x = y / height, x / width
    outside = np.zeros(grey.shape)
    soft = rng.choice([0.001, rng.uniform(0.002, 0.02)])
    for edge, along, gap in zip((x, 1 - x, y, 1 - y), (y, y, x, x), gaps, strict=True):
        if rng.random() < 0.5:
            margin = gap * rng.uniform(0, 1.0) if rng.random() < 0.5 else rng.exponential(0.03)
            margin = margin + rng.normal(0, 0.04) * (along - 0.5) * (rng.random() < 0.5)
            outside = np.maximum(outside, 1 / (1 + np.exp(np.clip((edge - margin) / soft, -30, 30))))
    tone = rng.choice([0.0, 0.03, 0.1, 1.0], p=[0.5, 0.15, 0.1, 0.25])
    outside *= 1 - rng.choice([0.0, rng.uniform(0, 0.2)])
    return ((1 - outside) * grey + outside * tone).astype(np.float32)


def _compress(grey: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32) / 255
