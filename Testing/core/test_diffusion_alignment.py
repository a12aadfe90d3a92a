"""The atlas is moved to where the radiograph shows it."""

import copy

import pytest
import torch
from scipy import ndimage

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, MAP_GRID
from xray2ctpa_core.diffusion import alignment
from xray2ctpa_core.models.encoders.atlas import DeformableAtlas, resized, warp
from xray2ctpa_core.simulation.projection import project


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
    values = alignment._values(atlas, DEFAULT_HU_WINDOW, torch.device("cpu"))
    seen = alignment._View(values, template_map)(torch.zeros(1, 3, 7, 7, 7))
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


def test_what_is_seen_is_the_projection_of_the_atlas_under_the_map(atlas: DeformableAtlas) -> None:
    """The same integrals under the same change, and the same gradient, as of atlas and rays looked up."""
    generator = torch.Generator().manual_seed(0)
    changes = 0.02 * torch.randn(2, 3, 7, 7, 7, generator=generator)
    starts = torch.cat([0.9 * identity_map(), identity_map() + 0.04])
    values = alignment._values(atlas, DEFAULT_HU_WINDOW, torch.device("cpu"))
    weights = torch.randn(1, 1, 64, 64, generator=generator)

    def looked_up(change: torch.Tensor) -> torch.Tensor:
        maps = starts + resized(change, MAP_GRID)
        planes = alignment._planes(change.device)
        volumes = [warp(values, one, alignment._GRID)[0, 0] for one in maps.split(1)]
        return torch.stack([project(volume, planes, (0.0, 0.0)).flip(0)[None] for volume in volumes])

    found = []
    for view in (looked_up, alignment._View(values, starts)):
        change = changes.clone().requires_grad_()
        seen = view(change)
        found.append((seen.detach(), torch.autograd.grad((seen * weights).sum(), change)[0]))
    (expected, gradient), (seen, other_gradient) = found
    assert (expected - seen).abs().max() < 1e-4 * expected.max()
    assert (gradient - other_gradient).abs().max() < 1e-3 * gradient.abs().max()


@pytest.mark.parametrize("threads", [1, 2])
def test_several_maps_are_aligned_at_once_each_as_if_alone(atlas: DeformableAtlas, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    radiograph = radiograph_of(atlas, identity_map())
    starts = torch.cat([identity_map() + 0.03, identity_map() - 0.02, 0.95 * identity_map()])
    together = alignment.align_map(atlas, starts, radiograph, DEFAULT_HU_WINDOW, 8)
    alone = [alignment.align_map(atlas, start[None], radiograph, DEFAULT_HU_WINDOW, 8) for start in starts]
    torch.set_num_threads(before)
    assert torch.equal(together, torch.cat(alone))
    assert (together[0] - starts[0]).abs().max() > 0.01


def test_no_iteration_of_the_alignment_reads_what_lies_on_the_device(atlas: DeformableAtlas) -> None:
    """Which on a GPU would wait for it. Tensors of the device meta cannot be read."""
    radiograph, start = radiograph_of(atlas, identity_map()).to("meta"), identity_map().to("meta")
    found = alignment.align_map(copy.deepcopy(atlas).to("meta"), start, radiograph, DEFAULT_HU_WINDOW, 3)
    assert (found.device.type, found.shape) == ("meta", start.shape)
