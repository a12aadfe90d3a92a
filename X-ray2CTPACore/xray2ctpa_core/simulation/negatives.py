"""Images that the gate must refuse: CT slices, pages of text, photographs, shapes, noise, blanks."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from xray2ctpa_core.simulation.fields import cloudy_field
from xray2ctpa_core.simulation.template import Template

_WORDS = (
    "report",
    "patient",
    "thorax",
    "findings",
    "no",
    "evidence",
    "of",
    "acute",
    "2021",
    "mg",
    "the",
    "and",
)


def not_a_radiograph(template: Template, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: a random image that is no chest radiograph."""
    kinds = (_text_page, _photograph, _coloured_noise, _shapes, _gradient)
    if rng.random() < 0.4:
        picture = _ct_slice(template, shape, rng)
    else:
        picture = kinds[rng.choice(5, p=[0.12, 0.45, 0.2, 0.15, 0.08])](shape, rng)
    if rng.random() < 0.3:
        picture = np.where(np.arange(shape[1]) < shape[1] // 2, picture, picture[:, ::-1])
    if rng.random() < 0.25:
        picture = 1 - picture
    picture = np.clip(picture, 0, 1) ** np.exp(rng.normal(0, 0.3))
    return np.clip(picture + rng.exponential(0.01) * rng.normal(0, 1, shape), 0, 1).astype(np.float32)


def _resize(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 through Pillow's bilinear filter."""
    image = Image.fromarray(np.asarray(picture, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _ct_slice(template: Template, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A slice, thin slab mean or slab maximum of the template in a random plane and window."""
    hu, (dz, dy, dx) = template.hu, template.spacing
    axis = rng.choice(3, p=[0.5, 0.25, 0.25])
    at = int(rng.uniform(0.08, 0.92) * hu.shape[axis])
    slab = np.take(hu, range(at, min(at + int(rng.integers(1, 8)), hu.shape[axis])), axis=axis)
    plane = slab.max(axis) if rng.random() < 0.2 else slab.mean(axis)
    size = ((dy, dx), (dz, dx), (dz, dy))[axis]
    if axis != 0:
        plane = plane[::-1]
    centre, width = rng.choice([(-600, 1500), (50, 400), (300, 1500), (150, 800), (-200, 2000)])
    plane = np.clip((plane - centre) / width + 0.5, 0, 1)
    plane = np.rot90(plane, rng.choice(4, p=[0.7, 0.1, 0.1, 0.1]))
    extent = np.array(plane.shape) * (size if plane.shape[0] == slab.mean(axis).shape[0] else size[::-1])
    zoom = min(shape[0] / extent[0], shape[1] / extent[1]) * rng.uniform(0.75, 1.4)
    picture = _resize(plane, (int(extent[0] * zoom), int(extent[1] * zoom)))
    canvas = np.zeros(shape, np.float32)
    t, le = (shape[0] - picture.shape[0]) // 2, (shape[1] - picture.shape[1]) // 2
    part = picture[max(0, -t) : max(0, -t) + shape[0], max(0, -le) : max(0, -le) + shape[1]]
    t, le = max(0, t), max(0, le)
    canvas[t : t + part.shape[0], le : le + part.shape[1]] = part
    return canvas


def _text_page(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Lines of words on a bright page, sometimes with a table or a figure."""
    picture = Image.new("L", (shape[1], shape[0]), int(rng.integers(200, 256)))
    draw = ImageDraw.Draw(picture)
    size = float(rng.uniform(5, 14))
    font = ImageFont.load_default(size=size)
    y = rng.uniform(0, 20)
    while y < shape[0]:
        words = " ".join(rng.choice(_WORDS, int(rng.integers(2, 12))))
        draw.text((rng.uniform(2, 20), y), words, fill=int(rng.integers(0, 90)), font=font)
        y += size * rng.uniform(1.1, 2)
    if rng.random() < 0.5:
        draw.rectangle(_box(shape, rng), fill=int(rng.integers(0, 256)), outline=0)
    return np.asarray(picture, dtype=np.float32) / 255


def _photograph(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A scene: shaded background, overlapping textured figures, often a head on shoulders."""
    picture = 0.5 + 0.5 * rng.random() * cloudy_field(shape, rng.uniform(1.2, 2.4), rng)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    for _ in range(rng.integers(3, 14)):
        cy, cx = rng.uniform(0, shape[0] / max(shape)), rng.uniform(0, shape[1] / max(shape))
        ry, rx = rng.uniform(0.03, 0.35, 2)
        a = rng.uniform(0, np.pi)
        dy, dx = (y - cy) * np.cos(a) + (x - cx) * np.sin(a), (x - cx) * np.cos(a) - (y - cy) * np.sin(a)
        power = rng.choice([2.0, 2.0, 6.0])
        inside = np.abs(dy / ry) ** power + np.abs(dx / rx) ** power < 1
        shade = rng.random() + rng.normal(0, 0.3) * dy / ry + rng.normal(0, 0.2) * dx / rx
        texture = rng.uniform(0, 0.2) * cloudy_field(shape, rng.uniform(0.5, 2), rng)
        picture = np.where(inside, shade + texture, picture)
    if rng.random() < 0.35:
        picture = _portrait(picture, y, x, rng)
    return ndimage.gaussian_filter(picture, rng.uniform(0, 1.2))


def _portrait(picture: np.ndarray, y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A head with eyes, hair and shoulders: two dark spots in a symmetric bright shape."""
    middle, top, size = x.max() / 2 + rng.normal(0, 0.08), rng.uniform(0.15, 0.35), rng.uniform(0.1, 0.25)
    skin, cloth, hair = rng.uniform(0.4, 0.9), rng.random(), rng.uniform(0, 0.6)
    shoulders = ((y - top - 3.2 * size) / (2 * size)) ** 2 + ((x - middle) / (2.2 * size)) ** 2 < 1
    head = ((y - top) / (1.3 * size)) ** 2 + ((x - middle) / size) ** 2
    picture = np.where(shoulders, cloth + 0.1 * cloudy_field(y.shape, 1.0, rng), picture)
    picture = np.where(head < 1.35, hair, picture)
    picture = np.where((head < 1) & (y > top - 0.7 * size), skin - 0.2 * (x - middle) / size, picture)
    for side in (-1, 1):
        eye = ((y - top) / (0.15 * size)) ** 2 + ((x - middle - side * 0.4 * size) / (0.2 * size)) ** 2
        picture = np.where(eye < 1, 0.1, picture)
    return picture


def _coloured_noise(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise from white to cloudy, sometimes stretched along an axis."""
    field = cloudy_field(shape, rng.uniform(0, 2.5), rng)
    if rng.random() < 0.3:
        field = ndimage.gaussian_filter1d(field, rng.uniform(2, 20), axis=int(rng.integers(2)))
    return 0.5 + 0.25 * field / max(float(field.std()), 1e-9)


def _box(shape: tuple[int, int], rng: np.random.Generator) -> list[float]:
    """[x0, y0, x1, y1] of a random rectangle."""
    y, x = np.sort(rng.uniform(0, shape[0], 2)), np.sort(rng.uniform(0, shape[1], 2))
    return [float(x[0]), float(y[0]), float(x[1]), float(y[1])]


def _shapes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Flat rectangles, ellipses and lines, as in drawings, charts and screenshots."""
    picture = Image.new("L", (shape[1], shape[0]), int(rng.integers(0, 256)))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 12)):
        kind = (draw.rectangle, draw.ellipse)[rng.integers(2)]
        kind(_box(shape, rng), fill=int(rng.integers(0, 256)))
    for _ in range(rng.integers(0, 6)):
        draw.line(_box(shape, rng), fill=int(rng.integers(0, 256)), width=int(rng.integers(1, 5)))
    return np.asarray(picture, dtype=np.float32) / 255


def _gradient(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A nearly blank image: a gradient, a vignette, hardly any noise."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    a, b, c = rng.normal(0, 1, 3)
    slope = a * x + b * y + c * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    return (slope - slope.min()) / max(float(np.ptp(slope)), 1e-9) * rng.random() + 0.02 * rng.normal(
        0, 1, shape
    )
