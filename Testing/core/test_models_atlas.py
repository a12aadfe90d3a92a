"""The deformable atlas, and what is diffused with it and without."""

from pathlib import Path

import pytest
import torch

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.diffusion.residual import to_diffused, to_latents
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas, resized, to_map_grid
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.protocols import Conditioning

GRID = (16, 8, 8)


def identity_map() -> torch.Tensor:
    axes = [torch.linspace(-1, 1, n) for n in MAP_GRID]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0)


def smooth_volume() -> torch.Tensor:
    z, y, x = (torch.linspace(-1, 1, n) for n in (16, 32, 32))
    return 0.6 * torch.sin(2 * z)[:, None, None] * torch.cos(y)[:, None] + 0.3 * x


@pytest.fixture
def encoder() -> XrayEncoder:
    torch.manual_seed(0)
    module = XrayEncoder((8, 8, 16), GRID, 4, 16, 2, (16, 32, 32), 3, 4, 8).eval()
    assert module.atlas is not None
    module.atlas.set_atlas(smooth_volume(), identity_map())
    return module


def test_the_mean_map_shows_the_atlas_as_it_is() -> None:
    atlas = DeformableAtlas((16, 32, 32), GRID, 4, 3)
    atlas.set_atlas(smooth_volume(), identity_map())
    warped = atlas(identity_map()[None])
    assert warped.shape == (1, atlas.channels, *GRID) == (1, 19, 16, 8, 8)
    unfolded = torch.nn.functional.pixel_shuffle(warped[0, :16].transpose(0, 1), 4)[:, 0]
    assert torch.allclose(unfolded, smooth_volume(), atol=1 / 127)


def test_a_map_that_reads_further_left_moves_the_atlas_to_the_right() -> None:
    """Backward maps: the point of the patient says where in the atlas it is, x towards the left."""
    atlas = DeformableAtlas((16, 32, 32), GRID, 4, 1)
    volume = torch.full((16, 32, 32), -1.0)
    volume[:, :, 20] = 1.0
    atlas.set_atlas(volume, identity_map())
    moved = identity_map()[None].clone()
    moved[:, 0] += 4 * 2 / 31
    columns = torch.nn.functional.pixel_shuffle(atlas(moved)[0, :16].transpose(0, 1), 4)[:, 0].mean((0, 1))
    assert int(columns.argmax()) == 16


def test_signs_that_were_seen_reach_embedding_and_lifted_features() -> None:
    torch.manual_seed(0)
    plain = XrayEncoder((8, 8, 16), GRID, 4, 16, 2)
    torch.manual_seed(0)
    seeing = XrayEncoder((8, 8, 16), GRID, 4, 16, 2, sign_maps=3)
    assert plain.spatial_channels == seeing.spatial_channels - 3
    assert seeing.see_signs is not None
    maps = []
    hook = seeing.see_signs.register_forward_hook(lambda *passed: maps.append(passed[2]))
    features = seeing(torch.rand(2, 1, 64, 64))
    hook.remove()
    assert maps[0].shape == (2, 3, *GRID[::2])
    lifted = seeing.conditioning(features).spatial
    assert lifted is not None
    assert lifted.shape == (2, seeing.spatial_channels, *GRID) == (2, 7, *GRID)
    # In the middle plane rays neither part nor meet; rows count from the top there, slices from below.
    middle = lifted[:, 4:, :, GRID[1] // 2 - 1 : GRID[1] // 2 + 1].mean(3)
    assert torch.allclose(middle, maps[0].sigmoid().flip(2), atol=0.02)
    lifted[:, 4:].sum().backward()
    assert seeing.see_signs.weight.grad is None  # their own task teaches the maps
    seeing(torch.rand(1, 1, 64, 64)).embedding.sum().backward()
    assert seeing.see_signs.weight.grad is not None


def test_maps_go_to_the_latent_grid_and_back() -> None:
    smooth = torch.stack([torch.sin(identity_map()[k] * 2) for k in range(3)])[None]
    back = to_map_grid(resized(smooth, (64, 32, 32)))
    inside = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    assert (back - smooth)[inside].abs().max() < 0.06


@pytest.mark.parametrize("map_std", [None, (0.05, 0.06, 0.1)])
def test_what_was_diffused_gives_the_latents_again(
    encoder: XrayEncoder, map_std: tuple[float, ...] | None
) -> None:
    denoiser = SpatialDenoiser(2, 6, 16, (8,), 16, residual_std=(0.5, 2.0), map_std=map_std)
    conditioning = encoder.condition(torch.rand(2, 1, 64, 64))
    latents = torch.randn(2, 2, *GRID)
    assert conditioning.template_map is not None
    true_map = conditioning.template_map + 0.02
    diffused = to_diffused(denoiser, conditioning, latents, true_map)
    assert diffused.shape == (2, denoiser.diffused_channels, *GRID)
    assert torch.allclose(to_latents(denoiser, conditioning, diffused), latents, atol=1e-4)
    if map_std is not None:
        for axis, std in enumerate(map_std):
            assert torch.allclose(diffused[:, 2 + axis], torch.tensor(0.02 / std), atol=1e-4)


def test_another_map_moves_the_sample(encoder: XrayEncoder) -> None:
    denoiser = SpatialDenoiser(2, 6, 16, (8,), 16, residual_std=(1.0, 1.0), map_std=(0.1, 0.1, 0.1))
    conditioning = encoder.condition(torch.rand(1, 1, 64, 64))
    diffused = torch.zeros(1, 5, *GRID)
    still = to_latents(denoiser, conditioning, diffused)
    diffused[:, 2:] = 3.0
    assert (to_latents(denoiser, conditioning, diffused) - still).abs().max() > 1e-3


def test_a_denoiser_of_maps_says_what_it_lacks(encoder: XrayEncoder) -> None:
    denoiser = SpatialDenoiser(2, 6, 16, (8,), 16, residual_std=(1.0, 1.0), map_std=(0.1, 0.1, 0.1))
    conditioning = encoder.condition(torch.rand(1, 1, 64, 64))
    with pytest.raises(ValueError, match="maps into the atlas, got none"):
        to_diffused(denoiser, conditioning, torch.randn(1, 2, *GRID))
    with pytest.raises(ValueError, match="encoder with an atlas"):
        to_diffused(denoiser, Conditioning(torch.zeros(1, 16)), torch.randn(1, 2, *GRID))
    with pytest.raises(ValueError, match="residual_std"):
        SpatialDenoiser(2, 6, 16, (8,), 16, map_std=(0.1, 0.1, 0.1))


def test_without_an_atlas_the_latents_residual_or_the_latents_themselves_are_diffused() -> None:
    plain = XrayEncoder((8, 8, 16), GRID, 4, 16, 2)
    conditioning = plain.condition(torch.rand(1, 1, 64, 64))
    assert conditioning.spatial is not None
    assert conditioning.spatial.shape[1] == plain.spatial_channels == 4
    latents = torch.randn(1, 2, *GRID)
    residual = SpatialDenoiser(2, 4, 16, (8,), 16, residual_std=(0.5, 2.0))
    diffused = to_diffused(residual, conditioning, latents)
    assert torch.allclose(diffused[:, 0], (latents[:, 0] - conditioning.spatial[:, 0]) / 0.5)
    assert torch.allclose(to_latents(residual, conditioning, diffused), latents, atol=1e-5)
    whole = SpatialDenoiser(2, 4, 16, (8,), 16)
    assert torch.equal(to_diffused(whole, conditioning, latents), latents)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_atlas_is_saved_in_bytes_and_loads_in_any_precision(
    encoder: XrayEncoder, tmp_path: Path, dtype: torch.dtype
) -> None:
    encoder.half().save_pretrained(tmp_path)
    loaded = XrayEncoder.from_pretrained(tmp_path, torch_dtype=dtype)
    assert loaded.atlas is not None
    assert encoder.atlas is not None
    assert loaded.atlas.intensities.dtype == torch.uint8
    assert torch.equal(loaded.atlas.intensities, encoder.atlas.intensities)
