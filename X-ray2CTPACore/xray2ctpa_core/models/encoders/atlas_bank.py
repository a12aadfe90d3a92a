"""A bank of atlases: several people's volumes in one space, so that one map bends any of them to a patient.

Where things lie follows from the radiograph, how tissue looks hardly: so a predicted map bends a real
person's CT (Dalca et al., NeurIPS 2019, section 3, with one template), and which person's is drawn anew for
each sample. What comes out is as sharp as a CT, whatever the networks have learned. The volumes share what is
coarse, for that is expected of everybody; only what is finer is a person's own.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.encoders.atlas import resized

#: Standard deviation of the Gaussian that parts what is coarse from a person's own, in mm.
SHARED_MM = 8.0
#: Least value of tissue between lung and fat, in [-1, 1] (about -570 HU).
_TISSUE = -0.55


class MeanAtlas(NamedTuple):
    """``intensities``: (D, H, W) in 0..255, of everybody's mean."""

    intensities: torch.Tensor


class _Body(NamedTuple):
    """``inside``: the body of the volumes ``of`` while they are at this ``version``."""

    of: torch.Tensor
    version: int
    inside: torch.Tensor


class AtlasBank(nn.Module):
    """Volumes of several people on one grid.

    Maps are (B, 3, d, h, w): for every point of the patient's frame the bank's point, in grid_sample
    coordinates (x, y, z) in [-1, 1]; a map's corners are the centres of the corner voxels.

    Args:
        people: volumes K.
        shape: (D, H, W) of each.
    """

    def __init__(self, people: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.intensities: torch.Tensor
        self.register_buffer("intensities", torch.zeros(people, *shape, dtype=torch.uint8))
        self._known_body: _Body | None = None

    def set_volumes(self, normalised: torch.Tensor) -> None:
        """Takes volumes (K, D, H, W) with values in [-1, 1]."""
        self.intensities.copy_(((normalised + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))

    def forward(
        self, template_map: torch.Tensor, person: torch.Tensor, size: tuple[int, ...]
    ) -> torch.Tensor:
        """(B, 1, *size) in [-1, 1]: for each case the volume of its ``person`` (B,), bent by its map."""
        points = resized(template_map.float(), size).permute(0, 2, 3, 4, 1)
        volumes = (self.intensities.index_select(0, one)[0].float() for one in person.split(1))
        return _bent(volumes, points)

    def mixed(self, template_map: torch.Tensor, weights: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """(B, 1, *size): the mean of people's volumes, bent, by ``weights`` (B, K) that add up to 1."""
        points = resized(template_map.float(), size).permute(0, 2, 3, 4, 1)
        return _bent((self._mean(share) for share in weights.float()), points)

    def outside(self, template_map: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """(B, 1, *size) in [0, 1]: 1 in the air around the body of everybody's mean, bent. A place is outside
        if it can be seen from the right, the left, the front or the back without tissue between."""
        depth, height, width = size
        few = (depth, height // 2, width // 2)  # the body is smooth
        points = resized(template_map.float(), few).permute(0, 2, 3, 4, 1)
        body = _bent([self._body()] * len(points), points)
        return (1 - functional.interpolate(body, size=(depth, height, width), mode="trilinear")) / 2

    def _body(self) -> torch.Tensor:
        """(D, H, W): 255 in the body of everybody's mean, 0 outside; found once for these volumes."""
        known = self._known_body
        if known is None or known.of is not self.intensities or known.version != self.intensities._version:
            with torch.inference_mode(False), torch.no_grad():  # it outlives the call
                inside = 255.0 * body_of(self.mean()[None, None])[0, 0]
            known = self._known_body = _Body(self.intensities, self.intensities._version, inside)
        return known.inside

    def mean(self) -> torch.Tensor:
        """(D, H, W) in [-1, 1]: everybody's mean."""
        people = len(self.intensities)
        return self._mean(torch.full((people,), 1 / people, device=self.intensities.device)) / 127.5 - 1

    def _mean(self, share: torch.Tensor) -> torch.Tensor:
        """(D, H, W) float32, weighted by ``share`` (K,)."""
        total = torch.zeros(self.intensities.shape[1:], device=share.device)
        for part, volume in zip(share, self.intensities, strict=True):
            total = total + part * volume
        return total


def body_of(volumes: torch.Tensor) -> torch.Tensor:
    """(B, 1, D, H, W) in [-1, 1] -> 1 inside the body, 0 where a place can be seen from the right, the left,
    the front or the back without tissue between."""
    tissue = volumes > _TISSUE
    front, right = _behind(tissue, 3), _behind(tissue, 4)
    back, left = (_behind(tissue.flip(axis), axis).flip(axis) for axis in (3, 4))
    return (front & right & back & left).float()


def _behind(tissue: torch.Tensor, axis: int) -> torch.Tensor:
    """Places of tissue, and those behind it along an axis."""
    return tissue.cummax(axis).values


def _bent(volumes: Iterable[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """B volumes (D, H, W) with values in 0..255, each at its points (B, ..., 3) -> (B, 1, ...) in [-1, 1]."""
    bent = [
        functional.grid_sample(
            volume[None, None] / 127.5 - 1, case, padding_mode="border", align_corners=True
        )
        for volume, case in zip(volumes, points.split(1), strict=True)
    ]
    return torch.cat(bent)


def parted(normalised: torch.Tensor, voxel_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Volumes (K, D, H, W) -> what is coarse of each, and the rest, a person's own."""
    coarse = _smooth(normalised, SHARED_MM / voxel_mm)
    return coarse, normalised - coarse


def _smooth(volumes: torch.Tensor, sigma: float) -> torch.Tensor:
    """(K, D, H, W) under a Gaussian of ``sigma`` voxels; borders go on."""
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, device=volumes.device, dtype=volumes.dtype)
    kernel = torch.exp(-((places / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum()
    result = volumes[:, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = reach
        padded = functional.pad(result, pad, mode="replicate")
        result = functional.conv3d(padded, kernel.view(shape))
    return result[:, 0]
