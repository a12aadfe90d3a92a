"""Virtual patients drawn in batches on the device: one person's tissue in another shape, as a CTPA and a
radiograph, framed as the networks frame a radiograph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch.nn import functional

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, DEPTH_FRACTION, FRAME_MARGIN, MAP_GRID
from xray2ctpa_core.simulation.people.findings import Findings, draw_findings, opaque_shares, with_opacities
from xray2ctpa_core.simulation.people.maps import Maps, draw_maps, own_maps
from xray2ctpa_core.simulation.people.population import CHANNELS, GRID_HALF_MM, Population
from xray2ctpa_core.simulation.people.radiographs import project_batch, radiographs
from xray2ctpa_core.simulation.people.space import displaced
from xray2ctpa_core.simulation.projection import attenuation

#: The radiograph is computed from this much more than the frame, in each direction.
RADIOGRAPH_MARGIN = 1.25
#: The body's middle lies this far in front of the lungs' middle; a ray through so much lung shows lung.
_BODY_BEFORE_LUNGS_MM, _VISIBLE_LUNG_MM = 16.0, 35.0
_LUNG_STEP_MM, _LUNG_DEPTH_STEP_MM = 5.0, 10.0
#: Points are mapped on a lattice of about this step and interpolated.
_MAP_STEP_MM = 10.0


@dataclass(frozen=True)
class Shape:
    """What is drawn of a patient.

    Attributes:
        grid: (D, H, W) of the volume.
        pixels: along a side of the radiograph.
        finer: the volume is rendered on this many times finer (D, H, W) and averaged.
    """

    grid: tuple[int, int, int] = (64, 128, 128)
    pixels: int = 256
    finer: tuple[int, int, int] = (2, 1, 1)


@dataclass(frozen=True)
class Batch:
    """Virtual patients.

    Attributes:
        volume: (B, 1, D, H, W) in [-1, 1], the window DEFAULT_HU_WINDOW.
        image: (B, 1, P, P) in [0, 1], the frame of the radiograph.
        template_map: (B, 3, *MAP_GRID), for each point of the frame the point of the reference's space,
            (x, y, z) in GRID_HALF_MM; corners are the corner voxels' centres.
        person: (B,) whose tissue it is; shapes: (B, 2) whose shapes are mixed.
        pe: (B,) 1 with clots; signs: (B, S) what the radiograph shows (findings.SHOWN).
        lungs: (B, 1, D, H, W) share of lung; heart: the same of the heart.
        clots: (B, 1, D, H, W) share of clot.
        opaque: (B, 4, D, W) mm of lung, and of fluid, consolidation and haze in it (OPACITIES),
            along each ray of the radiograph's frame, rows from the top.
        side_mm: (B,) of the frame.
    """

    volume: torch.Tensor
    image: torch.Tensor
    template_map: torch.Tensor
    person: torch.Tensor
    shapes: torch.Tensor
    pe: torch.Tensor
    signs: torch.Tensor
    lungs: torch.Tensor
    heart: torch.Tensor
    clots: torch.Tensor
    opaque: torch.Tensor
    side_mm: torch.Tensor

    def __getitem__(self, cases: slice) -> "Batch":
        return Batch(**{field.name: getattr(self, field.name)[cases] for field in fields(self)})


def joined(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    return Batch(
        **{field.name: torch.cat([getattr(part, field.name) for part in batches]) for field in fields(Batch)}
    )


def draw_patients(
    population: Population,
    batch: int,
    shape: Shape,
    generator: torch.Generator,
    strength: float = 1.0,
    draw: Callable[[int, torch.Generator], Findings] = draw_findings,
) -> Batch:
    """Draws ``batch`` virtual patients on the generator's device; ``draw`` draws their findings."""
    device = population.values.device
    person = torch.randint(len(population.names), (batch,), generator=generator, device=device)
    findings = draw(batch, generator)
    maps = draw_maps(population.to_reference, findings.heart_scale, generator, strength)
    return _rendered(population, person, maps, population.to_person[person], findings, shape, generator)


def people_themselves(population: Population, shape: Shape, generator: torch.Generator) -> Batch:
    """Everybody as the CT has them, with a radiograph; nothing but the exposure is drawn."""
    device, count = population.values.device, len(population.names)
    maps = own_maps(count, device)
    findings = Findings.none(count, device)
    drawn = _rendered(
        population, torch.arange(count, device=device), maps, None, findings, shape, generator, centred=True
    )
    return drawn


def _rendered(
    population: Population,
    person: torch.Tensor,
    maps: Maps,
    to_person: torch.Tensor | None,
    findings: Findings,
    shape: Shape,
    generator: torch.Generator,
    centred: bool = False,
) -> Batch:
    frame = _frame(population, person, maps, to_person, generator, centred)
    depth, height, width = (n * f for n, f in zip(shape.grid, shape.finer, strict=True))
    rows, columns = (2 * round(n * RADIOGRAPH_MARGIN / 2) for n in (depth, width))
    margin = torch.tensor([rows / depth, 1.0, columns / width], device=person.device)
    points = frame.points((rows, height, columns), margin)
    sampled = _tissue(population, person, maps, to_person, points, (rows, height, columns))
    native, lungs, enhancement, arteries, heart = sampled.split(1, 1)
    edges = (rows - depth) // 2, (columns - width) // 2
    inside = (..., slice(edges[0], rows - edges[0]), slice(None), slice(edges[1], columns - edges[1]))
    voxel_mm = frame.extent_mm(torch.ones(3, device=person.device)) / torch.tensor(
        (depth, height, width), device=person.device
    )
    shares = opaque_shares(lungs, findings, voxel_mm, generator)
    native = with_opacities(native, shares)
    depth_mm, ray = frame.depth_planes(height), frame.ray_units(margin)
    lines = project_batch(attenuation(native[:, 0]), depth_mm, ray)
    opaque = torch.cat(
        [project_batch(part, depth_mm, ray) for part in torch.cat([lungs, shares], 1).unbind(1)], 1
    )[..., inside[-3], inside[-1]].flip(-2)
    image = radiographs(lines, generator, depth / rows, shape.pixels)
    native, enhancement, arteries, lungs, heart = (
        part[inside] for part in (native, enhancement, arteries, lungs, heart)
    )
    hu, clots = findings.enhanced(native, enhancement, arteries, generator)
    hu, lungs, heart, clots = (
        functional.avg_pool3d(part, shape.finer) if max(shape.finer) > 1 else part
        for part in (hu, lungs, heart, clots)
    )
    noise = torch.randn(hu.shape, generator=generator, device=hu.device)
    hu = hu + findings.noise_hu.view(-1, 1, 1, 1, 1) * noise
    lower, upper = DEFAULT_HU_WINDOW
    volume = ((hu - lower) / (upper - lower) * 2 - 1).clamp(-1, 1)
    corners = frame.points(MAP_GRID, _corner_share(shape.grid))
    where = maps(corners)
    if to_person is None:  # the person's own space: on to the reference's
        where = displaced(where, population.to_reference[person])
    half = torch.tensor(GRID_HALF_MM, device=where.device).view(1, 3, 1, 1, 1)
    template_map = (where / half).flip(1)
    return Batch(
        volume,
        image,
        template_map,
        person,
        maps.shapes,
        findings.pe,
        findings.shown,
        lungs,
        heart,
        clots,
        opaque,
        frame.side,
    )


def _corner_share(grid: tuple[int, int, int]) -> torch.Tensor:
    """(3,) factor by which MAP_GRID's cell-centred points reach the corner voxels' centres."""
    shares = [(1 - 1 / voxels) / (1 - 1 / nodes) for voxels, nodes in zip(grid, MAP_GRID, strict=True)]
    return torch.tensor(shares)


@dataclass(frozen=True)
class _Frame:
    """Where the frame lies: centre (B, 3) in mm, side (B,), central ray (B, 2) in mm."""

    centre: torch.Tensor
    side: torch.Tensor
    ray: torch.Tensor

    def extent_mm(self, share: torch.Tensor) -> torch.Tensor:
        """(B, 3) size in mm, ``share`` of the frame's along (z, y, x)."""
        of_side = torch.tensor([1.0, DEPTH_FRACTION, 1.0], device=self.side.device)
        return self.side[:, None] * of_side * share.to(self.side)

    def points(self, size: tuple[int, int, int], share: torch.Tensor) -> torch.Tensor:
        """(B, 3, *size) mm: centres of the voxels of a grid of ``share`` of the frame's extent."""
        extent = self.extent_mm(share)
        axes = [
            self.centre[:, axis, None]
            + ((torch.arange(n, device=self.side.device) + 0.5) / n - 0.5) * extent[:, axis, None]
            for axis, n in enumerate(size)
        ]
        z, y, x = axes[0][:, :, None, None], axes[1][:, None, :, None], axes[2][:, None, None, :]
        return torch.stack([part.expand(-1, *size) for part in (z, y, x)], 1)

    def depth_planes(self, planes: int) -> torch.Tensor:
        """(B, planes) mm from the middle."""
        share = (torch.arange(planes, device=self.side.device) + 0.5) / planes - 0.5
        return share * self.extent_mm(torch.ones(3))[:, 1, None]

    def ray_units(self, margin: torch.Tensor) -> torch.Tensor:
        """(B, 2) central ray in grid_sample units of the coronal plane with its margin."""
        extent = self.extent_mm(margin)[:, [0, 2]]
        return (self.ray - self.centre[:, [0, 2]]) * 2 / extent


def _frame(
    population: Population,
    person: torch.Tensor,
    maps: Maps,
    to_person: torch.Tensor | None,
    generator: torch.Generator,
    centred: bool,
) -> _Frame:
    """The square around the lungs that a radiograph shows, drawn a little off unless ``centred``."""
    device, batch = person.device, len(person)
    steps = (_LUNG_STEP_MM, _LUNG_DEPTH_STEP_MM, _LUNG_STEP_MM)
    axes = [
        torch.arange(-half, half, step, device=device)
        for half, step in zip((210.0, 150.0, 210.0), steps, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].expand(batch, -1, -1, -1, -1)
    lungs = _tissue(population, person, maps, to_person, points, points.shape[2:], ("lungs",))[:, 0]
    jitter = 0.0 if centred else 1.0
    ray = 15.0 * jitter * torch.randn(batch, 2, generator=generator, device=device)
    present = (lungs > 0.5).any(3).any(1)  # (B, planes)
    first, last = _first_and_last(present)
    depth = (axes[1][first] + axes[1][last]) / 2 - _BODY_BEFORE_LUNGS_MM
    reach = torch.tensor([210.0, 210.0], device=device)
    thick = project_batch(lungs, axes[1][None] - depth[:, None], ray / reach)[:, 0]
    visible = thick >= _VISIBLE_LUNG_MM
    bottom, top = _first_and_last(visible.any(2))
    right, left = _first_and_last(visible.any(1))
    low = torch.stack([axes[0][bottom], axes[2][right]], 1)
    high = torch.stack([axes[0][top], axes[2][left]], 1) + _LUNG_STEP_MM
    share = torch.rand(batch, generator=generator, device=device)
    side = FRAME_MARGIN * (high - low).max(1).values * (1.01 + jitter * 0.08 * (share - 0.5))
    off = 0.012 * jitter * torch.randn(batch, 2, generator=generator, device=device).clamp(-2.5, 2.5)
    middle = (low + high) / 2 + off * side[:, None]
    return _Frame(torch.stack([middle[:, 0], depth, middle[:, 1]], 1), side, ray)


def _first_and_last(flags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) first and last true place of (B, n); the whole length where none is."""
    flags = flags | ~flags.any(1, keepdim=True)
    first = flags.float().argmax(1)
    return first, flags.shape[1] - 1 - flags.flip(1).float().argmax(1)


def _tissue(
    population: Population,
    person: torch.Tensor,
    maps: Maps,
    to_person: torch.Tensor | None,
    points: torch.Tensor,
    size: Sequence[int],
    channels: Sequence[str] = CHANNELS,
) -> torch.Tensor:
    """(B, channels, *size): each patient's person at patient points (B, 3, ...)."""
    spans = (points[0, axis].max() - points[0, axis].min() for axis in range(3))
    coarse = [min(n, max(2, round(float(span) / _MAP_STEP_MM))) for n, span in zip(size, spans, strict=True)]
    few = functional.interpolate(points, size=coarse, mode="trilinear", align_corners=True)
    where = maps(few)
    if to_person is not None:
        where = displaced(where, to_person)
    where = functional.interpolate(where, size=tuple(size), mode="trilinear", align_corners=True)
    return torch.cat(
        [
            population.sample(number, where[case : case + 1], channels)
            for case, number in enumerate(person.tolist())
        ]
    )
