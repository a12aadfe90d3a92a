"""The atlas is moved to where the radiograph shows it."""

import pytest
import torch
from scipy import ndimage

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, MAP_GRID
from xray2ctpa_core.diffusion import alignment
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas


def identity_map() -> torch.Tensor:
    axes = [torch.linspace(-1, 1, n) for n in MAP_GRID]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0)[None]


@pytest.fixture(scope="module")
def atlas() -> DeformableAtlas:
    """A body full of lumps as fine as vessels and ribs."""
    noise = torch.randn(48, 48, 48, generator=torch.Generator().manual_seed(0)).numpy()
    lumps = torch.from_numpy(ndimage.gaussian_filter(noise, 2.0))
    module = DeformableAtlas((48, 48, 48), (32, 16, 16), 4, 2)
    module.set_atlas((lumps / lumps.std() * 0.25 - 0.2).clamp(-1, 1), identity_map()[0])
    return module


def radiograph_of(atlas: DeformableAtlas, template_map: torch.Tensor) -> torch.Tensor:
    """Its projection through a steep grey curve, as a frame image."""
    lower, upper = DEFAULT_HU_WINDOW
    hu = atlas.intensities.float() / 255 * (upper - lower) + lower
    seen = alignment._projection(alignment.attenuation(hu.clamp(max=250))[None, None], template_map)
    seen = torch.nn.functional.interpolate(seen, size=(256, 256), mode="bilinear")
    return ((seen - seen.mean()) / seen.std()).sigmoid()


@pytest.mark.parametrize(("axis", "shift"), [(0, 0.05), (2, -0.06)])
def test_a_shift_across_the_radiograph_is_found(atlas: DeformableAtlas, axis: int, shift: float) -> None:
    true_map = identity_map()
    true_map[:, axis] += shift
    found = alignment.align_map(
        atlas, identity_map(), radiograph_of(atlas, true_map), DEFAULT_HU_WINDOW, iterations=40
    )
    inside = (..., slice(6, -6), slice(6, -6), slice(6, -6))
    left = (found - true_map)[0, axis][inside].abs().mean()
    assert left < 0.35 * abs(shift)


def test_what_the_radiograph_shows_moves_the_map_across_it_far_more_than_along_the_rays(
    atlas: DeformableAtlas,
) -> None:
    true_map = identity_map()
    true_map[:, 0] += 0.05
    found = alignment.align_map(atlas, identity_map(), radiograph_of(atlas, true_map), DEFAULT_HU_WINDOW, 40)
    across, along = ((found - identity_map())[0, axis].abs().mean() for axis in (0, 1))
    assert across > 4 * along


def test_no_iterations_change_nothing_and_the_same_radiograph_gives_the_same_map(
    atlas: DeformableAtlas,
) -> None:
    radiograph = radiograph_of(atlas, identity_map())
    start = identity_map() + 0.02
    assert alignment.align_map(atlas, start, radiograph, DEFAULT_HU_WINDOW, 0) is start
    with torch.no_grad():  # as the pipeline calls it
        once, again = (alignment.align_map(atlas, start, radiograph, DEFAULT_HU_WINDOW, 3) for _ in range(2))
    assert torch.equal(once, again)
