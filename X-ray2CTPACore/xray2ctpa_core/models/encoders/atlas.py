"""A deformable atlas: one thorax that a predicted map deforms to the patient, on the latent grid.

A small network trained on few patients cannot generate lung vessels, but it can predict the positions of an
atlas' vessels (conditional deformable templates: Dalca et al., NeurIPS 2019, section 3). A radiograph
determines this map well, because it is smooth, and a warped atlas stays sharp.
"""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.constants import MAP_GRID

#: Cells along an edge of the atlas' learned features, which encode the position in the thorax.
_FEATURE_CELLS = 16
#: Atlas intensity (of 255) from which a point counts as body: 30 HU above air in the default window.
_BODY_FROM = 4.0


class DeformableAtlas(nn.Module):
    """An atlas volume with additional learned features, and the mean map into it.

    Maps are (B, 3, *MAP_GRID): for every point of the patient's frame the point of the atlas, in grid_sample
    coordinates (x, y, z) in [-1, 1]; a map's corners are the centres of the volume's corner voxels.

    Args:
        shape: (D, H, W) voxels of the atlas.
        latent_grid: (D, h, w) of the latents.
        fold: voxels of a slice along the edge of a latent cell.
        features: learned channels.
    """

    def __init__(
        self, shape: tuple[int, ...], latent_grid: tuple[int, ...], fold: int, features: int
    ) -> None:
        super().__init__()
        self._grid = (latent_grid[0], latent_grid[1] * fold, latent_grid[2] * fold)
        self._latent_grid, self._fold = tuple(latent_grid), fold
        self.intensities: torch.Tensor
        self.mean_map: torch.Tensor
        self.register_buffer("intensities", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("mean_map", torch.zeros(3, *MAP_GRID))
        self.features = nn.Parameter(0.1 * torch.randn(features, *(_FEATURE_CELLS,) * 3))

    @property
    def channels(self) -> int:
        """Number of channels of the output of `forward`."""
        return self._fold**2 + len(self.features)

    def set_atlas(self, normalised: torch.Tensor, mean_map: torch.Tensor) -> None:
        """Sets the atlas volume (D, H, W), with values in [-1, 1], and the mean of the maps into it."""
        self.intensities.copy_(((normalised + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
        self.mean_map.copy_(mean_map)

    @torch.no_grad()
    def body(self, template_map: torch.Tensor) -> torch.Tensor:
        """(B, 3, *MAP_GRID) -> (B, 1, *MAP_GRID): 1 where the map leads into the body, 0 in the air."""
        values = warp(self.intensities.float()[None, None], template_map.float(), MAP_GRID)
        return (values >= _BODY_FROM).float()

    def forward(self, template_map: torch.Tensor) -> torch.Tensor:
        """(B, 3, *MAP_GRID) -> (B, channels, D, h, w): warped slices, folded, then warped features."""
        template_map = template_map.detach().float()
        with torch.no_grad():
            warped = warp(self.intensities.float()[None, None] / 127.5 - 1, template_map, self._grid)
            folded = functional.pixel_unshuffle(warped[:, 0], self._fold)
            folded = folded.unflatten(1, (self._grid[0], -1)).transpose(1, 2)
        features = warp(self.features.float()[None], template_map, self._latent_grid)
        return torch.cat([folded, features], 1).to(self.features.dtype)


def warp(values: torch.Tensor, template_map: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Atlas values (1, C, d, h, w) at the points of maps (B, 3, ...) that are resized to ``size``."""
    points = resized(template_map, size).permute(0, 2, 3, 4, 1)
    values = values.expand(len(points), -1, -1, -1, -1)
    return functional.grid_sample(values, points, padding_mode="border", align_corners=True)


def to_map_grid(values: torch.Tensor) -> torch.Tensor:
    """(B, 3, D, h, w) on the latent grid -> (B, 3, *MAP_GRID), smoothed over a few cells."""
    values = functional.avg_pool3d(values, 3, 1, 1, count_include_pad=False)
    return resized(functional.avg_pool3d(values, 3, 1, 1, count_include_pad=False), MAP_GRID)


def resized(template_map: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """A map (B, 3, ...), or a change of one, on another grid with the same corners."""
    return functional.interpolate(template_map, size=tuple(size), mode="trilinear", align_corners=True)
