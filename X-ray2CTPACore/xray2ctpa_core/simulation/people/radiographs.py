"""Radiographs on the device, in batches: line integrals -> what else lies in the beam -> exposure ->
processing -> devices, letters, collimation -> equalised greys. One generator draws all of it."""

import math

import torch
from torch.nn import functional

from xray2ctpa_core.constants import DETECTOR_TO_CENTRE_MM, SOURCE_TO_DETECTOR_MM
from xray2ctpa_core.preprocessing.frame import FLAT, SATURATED_SHARE, SATURATION

_WATER_PER_MM = 0.0193
_LETTER_CELLS = (5, 9)
_CURVE_POINTS = 24


def project_batch(values: torch.Tensor, depth_mm: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
    """Line integrals of a PA radiograph (simulation.projection.project, for a batch).

    Args:
        values: (B, D, H, W), k upwards, j to posterior, i to the left.
        depth_mm: (B, H) y in mm of each coronal plane from the thorax's middle.
        ray: (B, 2), (z, x) of the central ray in grid_sample units of the coronal plane.

    Returns:
        (B, 1, D, W), value x mm, rows k upwards.
    """
    batch, rows, planes, columns = values.shape
    to_source = SOURCE_TO_DETECTOR_MM - DETECTOR_TO_CENTRE_MM
    m = (to_source / (to_source - depth_mm)).flatten().view(-1, 1, 1)
    v = (torch.arange(rows, device=values.device) * 2 + 1.0) / rows - 1
    u = (torch.arange(columns, device=values.device) * 2 + 1.0) / columns - 1
    centre = ray.repeat_interleave(planes, 0)[:, :, None, None]
    where_v = (centre[:, 0] + (v[None, :, None] - centre[:, 0]) / m).expand(-1, rows, columns)
    where_u = (centre[:, 1] + (u[None, None] - centre[:, 1]) / m).expand(-1, rows, columns)
    stacked = values.transpose(1, 2).reshape(batch * planes, 1, rows, columns)
    sampled = functional.grid_sample(
        stacked, torch.stack([where_u, where_v], -1), padding_mode="border", align_corners=False
    )
    step = (depth_mm[:, 1] - depth_mm[:, 0]).abs().view(-1, 1, 1, 1)
    return sampled.view(batch, planes, rows, columns).sum(1, keepdim=True) * step


def radiographs(
    lines: torch.Tensor, generator: torch.Generator, frame_share: float, pixels: int
) -> torch.Tensor:
    """(B, 1, D, W) line integrals, rows k upwards -> (B, 1, pixels, pixels) in [0, 1], rows from the top.

    Args:
        lines: of the frame with a margin around it.
        generator: on their device.
        frame_share: side of the frame over that of ``lines``.
        pixels: along a side of the result.
    """
    draw = _Draw(len(lines), generator, lines.device)
    side = round(pixels / frame_share)
    image = functional.interpolate(lines.flip(-2), size=(side, side), mode="bilinear", align_corners=False)
    image = image + _breasts(image, draw) + _arms(image, draw)
    image = _abdomen(image, draw)
    density = _processed(_exposed(image, draw), draw)
    density = _devices(density, draw)
    density = _collimated(_letters(density, draw), draw, frame_share)
    edge = (side - pixels) // 2
    return equalised(density[..., edge : edge + pixels, edge : edge + pixels])


class _Draw:
    """Random numbers, one a radiograph: (B, 1, 1, 1)."""

    def __init__(self, batch: int, generator: torch.Generator, device: torch.device) -> None:
        self.batch, self.generator, self.device = batch, generator, device

    def uniform(self, low: float, high: float) -> torch.Tensor:
        share = torch.rand(self.batch, 1, 1, 1, generator=self.generator, device=self.device)
        return low + (high - low) * share

    def chance(self, probability: float) -> torch.Tensor:
        return (self.uniform(0, 1) < probability).float()

    def noise(self, *shape: int) -> torch.Tensor:
        return torch.randn(self.batch, *shape, generator=self.generator, device=self.device)


def _places(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(v, u) in [-1, 1] of the pixels, rows from the top."""
    v = torch.linspace(-1, 1, image.shape[-2], device=image.device).view(1, 1, -1, 1)
    u = torch.linspace(-1, 1, image.shape[-1], device=image.device).view(1, 1, 1, -1)
    return v, u


def _breasts(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Two domes over the lower fields, up to 60 mm of water."""
    v, u = _places(image)
    amount = draw.uniform(5, 60) * _WATER_PER_MM * draw.chance(0.45)
    row, column = draw.uniform(0.05, 0.5), draw.uniform(0.3, 0.58)
    height, width = draw.uniform(0.22, 0.5), draw.uniform(0.22, 0.45)
    total = torch.zeros_like(image)
    for side in (-1, 1):
        dv = (v - row + draw.uniform(-0.06, 0.06)) / height
        du = (u - side * column + draw.uniform(-0.06, 0.06)) / width
        below = torch.where(dv > 0, dv * draw.uniform(1.0, 1.5), dv)
        present = 1 - draw.chance(0.04)
        total = total + present * amount * (1 - below**2 - du**2).clamp(min=0).sqrt()
    return total


def _arms(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Upper arms beside the chest, where they hang; their chords in mm of water."""
    v, u = _places(image)
    total = torch.zeros_like(image)
    for side in (-1, 1):
        radius, slope = draw.uniform(0.12, 0.25), draw.uniform(-0.05, 0.3)
        offset = side * u - draw.uniform(0.95, 1.3) - slope * (v + 1) / 2
        chord = (radius**2 - offset**2).clamp(min=0).sqrt()
        bone = ((0.06**2 - offset**2).clamp(min=0)).sqrt()
        reached = torch.sigmoid((v + draw.uniform(0.2, 1.0)) * 12)
        total = total + draw.chance(0.35) * reached * (400 * chord + 500 * bone) * _WATER_PER_MM
    return total


def _abdomen(image: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """A denser or lighter abdomen, and bubbles of gas below the diaphragm."""
    v, u = _places(image)
    below = torch.sigmoid((v - draw.uniform(0.35, 0.7)) * 8)
    field = functional.interpolate(draw.noise(1, 4, 4), size=image.shape[-2:], mode="bicubic")
    result = image + below * (field * draw.uniform(0, 0.3) + draw.uniform(-0.2, 0.5) * draw.chance(0.5))
    for _ in range(3):
        dv = (v - draw.uniform(0.55, 1.0)) / draw.uniform(0.03, 0.12)
        du = (u - draw.uniform(-0.5, 0.7)) / draw.uniform(0.04, 0.2)
        inside = (1.5 - dv**2 - du**2).clamp(0, 1)
        thick = (image > 1.2).float()
        result = result - draw.chance(0.4) * draw.uniform(0.1, 0.7) * inside * thick
    return result.clamp(min=0)


def blurred(image: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
    """(B, 1, H, W) under a Gaussian of ``sigma`` pixels, (B, 1, 1, 1) or a number; borders reflected."""
    height, width = image.shape[-2:]
    pad = min(48, height - 1, width - 1)
    padded = functional.pad(image, (pad,) * 4, mode="reflect")
    down = torch.fft.fftfreq(padded.shape[-2], device=image.device)[:, None]
    across = torch.fft.rfftfreq(padded.shape[-1], device=image.device)[None]
    width2 = torch.as_tensor(sigma, device=image.device, dtype=image.dtype) ** 2
    kernel = torch.exp(-2 * math.pi**2 * width2 * (down**2 + across**2))
    smooth = torch.fft.irfft2(torch.fft.rfft2(padded) * kernel, s=padded.shape[-2:])
    return smooth[..., pad : pad + height, pad : pad + width]


def _exposed(lines: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Line integrals as detected: scatter, detector blur, quantum noise."""
    scatter = draw.uniform(0.15, 0.45)
    primary = torch.exp(-lines)
    detected = (1 - scatter) * primary + scatter * blurred(primary, 0.08 * lines.shape[-2])
    detected = blurred(detected, draw.uniform(0.3, 1.0))
    photons = 10 ** draw.uniform(4.2, 5.2)
    counts = detected * photons
    counts = (counts + draw.noise(*counts.shape[1:]) * counts.clamp(min=1).sqrt()).clamp(min=1)
    return -torch.log(counts / photons)


def _processed(density: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Detail enhancement at two scales, an uneven field, and an S-curve: greys in [0, 1]."""
    rows = density.shape[-2]
    for reach, strongest in ((0.05, 1.6), (0.012, 0.8)):
        density = density + draw.uniform(0.2, strongest) * (density - blurred(density, reach * rows))
    field = functional.interpolate(draw.noise(1, 3, 3), size=density.shape[-2:], mode="bicubic")
    density = density + draw.uniform(0, 0.12) * field
    flat = density.flatten(1)
    low, high = (torch.quantile(flat, q, dim=1).view(-1, 1, 1, 1) for q in (0.01, 0.99))
    centre = low + (high - low) * draw.uniform(0.42, 0.58)
    width = (high - low) * draw.uniform(0.18, 0.32)
    return torch.sigmoid((density - centre) / width)


def _devices(grey: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Up to two thin bright curves: lines, tubes, wires."""
    v, u = _places(grey)
    result = grey
    share = torch.linspace(0, 1, _CURVE_POINTS, device=grey.device).view(1, -1, 1, 1)
    for _ in range(2):
        ends = [(draw.uniform(-1.2, 0.4), draw.uniform(-0.9, 0.9)) for _ in range(3)]
        weights = ((1 - share) ** 2, 2 * share * (1 - share), share**2)
        rows, columns = (
            torch.stack([weight * end[axis] for weight, end in zip(weights, ends, strict=True)]).sum(0)
            for axis in (0, 1)
        )
        nearest = torch.full_like(grey, 9.0)
        for start in range(_CURVE_POINTS - 1):
            a = torch.stack([rows[:, start], columns[:, start]], 1)[..., None]
            b = torch.stack([rows[:, start + 1], columns[:, start + 1]], 1)[..., None]
            nearest = torch.minimum(nearest, _segment_distance(v, u, a, b))
        width = draw.uniform(0.004, 0.012)
        present = draw.chance(0.15) * draw.uniform(0.05, 0.4)
        result = result + present * torch.exp(-((nearest / width) ** 2))
    return result.clamp(0, 1)


def _segment_distance(v: torch.Tensor, u: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) distance of the pixels from the segments between (B, 2, 1, 1, 1) ends."""
    av, au, bv, bu = a[:, :1, :, 0], a[:, 1:, :, 0], b[:, :1, :, 0], b[:, 1:, :, 0]
    dv, du = bv - av, bu - au
    along = (((v - av) * dv + (u - au) * du) / (dv**2 + du**2).clamp(min=1e-8)).clamp(0, 1)
    return torch.hypot(v - av - along * dv, u - au - along * du)


def _letters(grey: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """A bright mark of random cells, of a letter's size, near an upper corner."""
    v, u = _places(grey)
    cells = (draw.noise(1, *_LETTER_CELLS) > 0).float()
    height, width = draw.uniform(0.03, 0.08), draw.uniform(0.05, 0.2)
    where_v = (v - draw.uniform(-1.0, -0.6)) / height
    where_u = (u - draw.uniform(0.6, 1.1) * (2 * draw.chance(0.5) - 1)) / width
    where = torch.stack(torch.broadcast_tensors(where_u, where_v), -1)[:, 0]
    mark = functional.grid_sample(cells, where, mode="nearest", align_corners=False)
    return torch.where((mark > 0) & (draw.chance(0.4) > 0), torch.ones_like(grey), grey)


def _collimated(grey: torch.Tensor, draw: _Draw, frame_share: float) -> torch.Tensor:
    """Margins covered in black, now and then, up to a little inside the frame."""
    v, u = _places(grey)
    tone = draw.uniform(0, 0.1)
    outside = torch.zeros_like(grey)
    for place in (v, -v, u, -u):
        margin = draw.uniform(frame_share - 0.06, 1.6)
        outside = torch.maximum(outside, (place > margin).float().expand_as(grey))
    return torch.where((outside > 0) & (draw.chance(0.4) > 0), tone.expand_as(grey), grey)


def equalised(image: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) -> mid-ranks in [0, 1], saturated ends weighing little (preprocessing.frame.equalise)."""
    flat = image.flatten(1)
    ordered, order = flat.sort(1)
    low, high = ordered[:, :1], ordered[:, -1:]
    margin = SATURATION * (high - low)
    weights = torch.ones_like(ordered)
    ends = (ordered <= low + margin, ordered >= high - margin)
    middle = (~(ends[0] | ends[1])).sum(1, keepdim=True)
    for end in ends:
        share = (SATURATED_SHARE * middle / end.sum(1, keepdim=True).clamp(min=1)).clamp(max=1)
        weights = torch.where(end & (middle > 0), weights * share, weights)
    ranks = (weights.cumsum(1) - weights / 2) / weights.sum(1, keepdim=True)
    ranks = torch.where(high - low <= FLAT * high.abs().clamp(min=1), torch.full_like(ranks, 0.5), ranks)
    return torch.zeros_like(flat).scatter(1, order, ranks).view_as(image)
