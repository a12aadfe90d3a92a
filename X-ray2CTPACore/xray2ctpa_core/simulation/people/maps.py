"""Maps from virtual patients into the reference's space: another person's shape, mixed and varied at random.

A patient's point p leads to c = exp(v)(A p + u(A p)): A is a small affine change, u mixes the shapes of two
people, and v is a stationary velocity field in the reference's space: a smooth random part and changes of
single organs (Arsigny et al., MICCAI 2006, for exp by squaring). A batch at once, on the generator's device.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from xray2ctpa_core.simulation.people.space import HALF_MM, displaced, lattice

#: (cells along an edge, standard deviation in mm) of the random velocity's parts.
_RANDOM_PARTS = ((6, 4.5), (10, 4.0), (20, 1.8))
_SQUARINGS = 5
#: Nodes along an edge of the lattice of velocities (20 mm apart): they are smooth.
_VELOCITY_NODES = 26
#: Centre and reach (z, y, x) in mm of what a heart's size changes, read off the reference.
_HEART_MM, _HEART_REACH_MM = (-25.0, -30.0, 29.0), (42.0, 40.0, 48.0)
#: Lowest level (z) and height in mm of the reference's lungs.
_BASE_MM, _LUNG_HEIGHT_MM = -120.0, 240.0
#: How far beyond either of two people their mixture may lie.
_BEYOND = 0.25


@dataclass(frozen=True)
class Maps:
    """Maps of a batch.

    Attributes:
        inverse: (B, 3, 3), patient mm -> shape mm.
        displacement: (B, 3, n, n, n) in mm on a lattice over the cube, shape space -> the reference's space.
        shapes: (B, 2), the numbers of the two people whose shapes are mixed.
        share: (B,) of the first.
    """

    inverse: torch.Tensor
    displacement: torch.Tensor
    shapes: torch.Tensor
    share: torch.Tensor

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """(B, 3, ...) patient mm -> (B, 3, ...) mm in the reference's space."""
        turned = torch.einsum("bij,bjzyx->bizyx", self.inverse, points)
        return displaced(turned, self.displacement)


def draw_maps(
    shapes: torch.Tensor, heart_scale: torch.Tensor, generator: torch.Generator, strength: float = 1.0
) -> Maps:
    """Draws a batch of maps.

    Args:
        shapes: (N, 3, NODES, NODES, NODES) displacements from people's spaces to the reference's.
        heart_scale: (B,) size of the heart over its usual; as many maps are drawn.
        generator: on the device of ``shapes``.
        strength: of all that varies besides the mixture of shapes.
    """
    batch, device = len(heart_scale), shapes.device

    def normal(sd: float) -> torch.Tensor:
        return torch.randn(batch, generator=generator, device=device).clamp(-2.2, 2.2) * sd * strength

    pair = torch.randint(len(shapes), (2, batch), generator=generator, device=device)
    share = torch.rand(batch, generator=generator, device=device) * (1 + 2 * _BEYOND) - _BEYOND
    share = share.view(-1, 1, 1, 1, 1)
    mixed = share * shapes[pair[0]] + (1 - share) * shapes[pair[1]]
    habitus = normal(0.04)
    scale = torch.stack(
        [0.3 * habitus + normal(0.05), 0.8 * habitus + normal(0.05), habitus + normal(0.02)], 1
    )
    inverse = torch.linalg.inv(_turns(normal(3.0), normal(2.0), normal(3.5)) @ torch.diag_embed(scale.exp()))
    velocity = _random_velocity(batch, strength, generator, device)
    velocity[:, 0] += _diaphragm(normal(10.0), normal(6.0), normal(6.0))
    velocity += _wall((60 * habitus + normal(6.0)).clamp(-10, 20))
    velocity += _heart(heart_scale)
    nodes = lattice(device)[None]
    return Maps(inverse, displaced(nodes + mixed, _exponential(velocity)) - nodes, pair.T, share.flatten())


def own_maps(batch: int, device: torch.device | str) -> Maps:
    """Maps that change nothing: the person as the CT has it, in the person's own space."""
    nothing = torch.zeros(batch, 3, 2, 2, 2, device=device)
    own = torch.arange(batch, device=device)
    return Maps(
        torch.eye(3, device=device).expand(batch, 3, 3),
        nothing,
        torch.stack([own, own], 1),
        torch.ones_like(own),
    )


def _turns(*degrees: torch.Tensor) -> torch.Tensor:
    """(B, 3, 3): rotations about z, y and x, axes (z, y, x)."""
    turns = torch.eye(3, device=degrees[0].device).expand(len(degrees[0]), 3, 3)
    for angle, (a, b) in zip(degrees, ((1, 2), (0, 2), (0, 1)), strict=True):
        cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
        turn = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cos, cos, -sin, sin
        turns = turn @ turns
    return turns


def _random_velocity(
    batch: int, strength: float, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    velocity = torch.zeros(batch, 3, *(_VELOCITY_NODES,) * 3, device=device)
    for cells, sd in _RANDOM_PARTS:
        noise = torch.randn(batch, 3, cells, cells, cells, generator=generator, device=device)
        part = functional.interpolate(noise, size=velocity.shape[2:], mode="trilinear", align_corners=True)
        velocity += sd * strength * part / part.std()
    return velocity


def _axes(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    axis = torch.linspace(-HALF_MM, HALF_MM, _VELOCITY_NODES, device=device)
    return axis[:, None, None], axis[None, :, None], axis[None, None, :]


def _diaphragm(both: torch.Tensor, right: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """(B, n, n, n) velocity along z in mm that lifts both domes by so many mm, and each alone."""
    z, _, x = _axes(both.device)
    level = (z - _BASE_MM) / _LUNG_HEIGHT_MM
    along = (1 - (level - 0.3) / 0.55).clamp(0, 1) * (1 + (level + 0.05) / 0.5).clamp(0, 1)
    leftness = torch.sigmoid(x / 18)
    lift = (both + right).view(-1, 1, 1, 1) * (1 - leftness) + (both + left).view(-1, 1, 1, 1) * leftness
    return -along * lift


def _wall(thicker: torch.Tensor) -> torch.Tensor:
    """(B, 3, ...) velocity that adds so many mm to the chest wall: points outside move towards the lungs."""
    _, y, x = _axes(thicker.device)
    outside = ((torch.hypot(x / 150, y / 115) - 0.9) / 0.35).clamp(0, 1)
    inward = -thicker.view(-1, 1, 1, 1) * outside / torch.hypot(x, y).clamp(min=1)
    parts = (torch.zeros_like(inward), inward * y, inward * x)
    return torch.stack([part.expand(-1, *(_VELOCITY_NODES,) * 3) for part in parts], 1)


def _heart(scale: torch.Tensor) -> torch.Tensor:
    """(B, 3, ...) velocity that makes the heart larger by a factor."""
    points = lattice(scale.device, _VELOCITY_NODES)
    offset = points - torch.tensor(_HEART_MM, device=scale.device).view(3, 1, 1, 1)
    reach = torch.tensor(_HEART_REACH_MM, device=scale.device).view(3, 1, 1, 1)
    weight = torch.exp(-((offset / reach) ** 2).sum(0) / 2)
    return -scale.log().view(-1, 1, 1, 1, 1) * (offset * weight)[None]


def _exponential(velocity: torch.Tensor) -> torch.Tensor:
    """Displacement of exp(v) by scaling and squaring."""
    displacement = velocity / 2**_SQUARINGS
    nodes = lattice(velocity.device, _VELOCITY_NODES)[None]
    for _ in range(_SQUARINGS):
        displacement = displaced(nodes + displacement, displacement) - nodes
    return displacement
