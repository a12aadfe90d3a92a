"""What a radiograph shows in the lungs is put into a sample's volume, where the radiograph shows it."""

import numpy as np
import pytest
import torch

from xray2ctpa_core.models.encoders.opacities import NOISE, with_opacities
from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader
from xray2ctpa_core.models.hu import denormalise_hu, normalise_hu

WINDOW = (-1000.0, 900.0)
SHAPE = (24, 40, 32)
#: The lungs of the phantom: rows of the depth, front to back.
FRONT, BACK = 8, 32


def chest() -> torch.Tensor:
    """(1, 1, *SHAPE) in [-1, 1]: two lungs in a body in air."""
    hu = torch.full(SHAPE, -1000.0)
    hu[:, 4:36, 2:30] = 40
    hu[:, FRONT:BACK, 5:14] = hu[:, FRONT:BACK, 18:27] = -850
    return normalise_hu(hu, WINDOW)[None, None]


def shares(fluid: float = 0.0, consolidation: float = 0.0) -> torch.Tensor:
    """(1, 2, 24, 32): filled shares in the lower half of the image's left, the patient's right."""
    found = torch.zeros(1, 2, 24, 32)
    found[0, :, 12:, :16] = torch.tensor([fluid, consolidation])[:, None, None]
    return found


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, *NOISE, generator=torch.Generator().manual_seed(seed))


def hu_of(volume: torch.Tensor) -> np.ndarray:
    return denormalise_hu(volume, WINDOW)[0, 0].numpy()


def test_nothing_is_changed_where_nothing_is_read() -> None:
    assert torch.allclose(with_opacities(chest(), shares(), noise(), WINDOW), chest(), atol=1e-6)


def test_fluid_lies_behind_at_the_base_of_its_side() -> None:
    change = hu_of(with_opacities(chest(), shares(fluid=0.5), noise(), WINDOW)) - hu_of(chest())
    lung = change[4, FRONT:BACK, 9]
    assert lung[-8:].min() > 800, "behind: fluid"
    assert lung[:8].max() < 20, "in front: lung"
    assert np.abs(change[4, :, 18:27]).max() < 1, "the other side"
    assert np.abs(change[18, :, 5:14]).max() < 1, "above"
    assert np.abs(change[4, 33:36]).max() < 1, "the chest wall"


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_consolidation_is_as_thick_as_the_radiograph_tells(share: float) -> None:
    thick = []
    for seed in range(6):
        made = hu_of(with_opacities(chest(), shares(consolidation=share), noise(seed), WINDOW))
        thick.append((made - hu_of(chest()))[2:9, FRONT:BACK, 6:13].sum(1).mean() / 875 / (BACK - FRONT))
    assert np.mean(thick) == pytest.approx(share, rel=0.25)


def test_samples_draw_where_in_the_depth_a_consolidation_lies() -> None:
    filled = [
        hu_of(with_opacities(chest(), shares(consolidation=0.3), noise(seed), WINDOW))[2:9, FRONT:BACK, 6:13]
        > -400
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(filled[0], filled[1])
    overlap = (filled[0] & filled[2]).sum() / (filled[0] | filled[2]).sum()
    assert overlap < 0.8


def test_what_is_read_up_to_the_floor_counts_as_nothing() -> None:
    torch.manual_seed(0)
    reader = OpacityReader((8, 8), 16, (0.4, 0.7)).eval()
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        read, found = reader(image).sigmoid(), reader.shares(image)
    assert read.shape == (2, 3, 8, 8)
    assert found.shape == (2, 2, 8, 8)
    assert (found[:, 0][read[:, 0] <= 0.4] == 0).all()
    assert torch.allclose(found[:, 1], ((read[:, 1] - 0.7) / 0.3).clamp(min=0), atol=1e-6)
