"""Where on the radiograph a score rests: networks whose evidence has a known place."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.explanation.radiograph_gradcam import on_radiograph, radiograph_gradcam
from xray2ctpa_core.pipelines.second_opinion import HeadReader, OpinionReader, OpinionSettings
from xray2ctpa_core.volume import FrontalFrame, Radiograph


class Bright(nn.Module):
    """Its logit is the sum of what is bright."""

    gradcam_layer = "shown"

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.shown = nn.Identity()
        self.sign = sign

    def explained(self, image: torch.Tensor) -> torch.Tensor:
        return self.sign * self.shown(image).sum((2, 3))


def test_the_map_is_strongest_where_the_evidence_lies_and_none_speaks_against_it() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 3, 11] = 2.0
    heat = radiograph_gradcam(Bright(), image)
    assert heat.shape == (16, 16)
    assert np.unravel_index(heat.argmax(), heat.shape) == (3, 11)
    assert heat.max() == 1
    assert heat[10, 3] == 0
    assert radiograph_gradcam(Bright(-1.0), image).max() == 0


def test_a_network_without_such_a_layer_and_several_images_are_refused() -> None:
    network = Bright()
    network.gradcam_layer = None  # type: ignore[assignment]
    with pytest.raises(InputError, match="needs a layer"):
        radiograph_gradcam(network, torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="one image"):
        radiograph_gradcam(Bright(), torch.zeros(2, 1, 4, 4))


def test_the_frames_map_lies_on_the_radiographs_pixels() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[:4, :4] = 1
    whole = on_radiograph(heat, FrontalFrame(top=4, left=8, side=16), (24, 32))
    assert whole.shape == (24, 32)
    assert whole[8, 12] == pytest.approx(1)
    assert whole[16, 12] == whole[8, 20] == pytest.approx(0)
    assert whole[:4].max() == whole[:, :8].max() == whole[20:].max() == 0


def test_a_frame_beyond_the_radiograph_is_cut_off() -> None:
    whole = on_radiograph(np.ones((8, 8), np.float32), FrontalFrame(top=-4, left=-4, side=16), (8, 8))
    assert whole.min() == 1


class SignEncoder(nn.Module):
    """Two maps of signs read off the greys, of which the first speaks for PE and the second against it."""

    def __init__(self) -> None:
        super().__init__()
        self.see_signs = nn.Conv2d(1, 2, 1)
        nn.init.constant_(self.see_signs.weight, 8.0)
        nn.init.constant_(self.see_signs.bias, -4.0)

    def forward(self, image: torch.Tensor, lifted: int) -> SimpleNamespace:
        assert lifted == 0
        strongest = self.see_signs(image).flatten(2).topk(4).values.mean(2).sigmoid()
        return SimpleNamespace(pe_logit=strongest[:, 0] - 0.5 * strongest[:, 1])


def test_the_encoders_map_is_of_the_signs_that_speak_for_pe() -> None:
    reader = HeadReader(SignEncoder()).eval()
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 5:7, 9:11] = 0.7
    assert reader.gradcam_layer == "shown"
    with torch.no_grad():
        torch.testing.assert_close(reader.explained(image), reader(image), rtol=1e-4, atol=1e-4)
    heat = radiograph_gradcam(reader, image)
    assert heat[5, 9] == pytest.approx(1)
    assert heat[0, 0] < 0.1
    hooks = reader.encoder.see_signs._forward_hooks
    assert len(hooks) == 0


@pytest.mark.parametrize(
    ("read", "keep_aspect"), [("whole", True), ("whole", False), ("frame", True)], ids=str
)
def test_a_map_lies_where_the_radiograph_was_read(read: str, keep_aspect: bool) -> None:
    settings = OpinionSettings(input=read, pixels=30, mean=0.0, std=1.0, keep_aspect=keep_aspect)
    reader = OpinionReader(HeadReader(SignEncoder()).eval(), settings, "maps")
    pixels = np.zeros((40, 60), np.float32)
    pixels[8:14, 42:48] = 0.9
    heat = reader.heat(Radiograph(pixels), FrontalFrame(0, 20, 40))
    assert heat is not None
    assert heat.shape == (40, 60)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert (8 <= row < 14, 42 <= column < 48) == (True, True), (row, column)
    coarse = reader.heat(Radiograph(pixels), FrontalFrame(0, 20, 40), longest=30)
    assert coarse is not None
    assert coarse.shape == (20, 30)
    row, column = np.unravel_index(int(coarse.argmax()), coarse.shape)
    assert (4 <= row < 7, 21 <= column < 24) == (True, True), (row, column)


def test_a_network_without_maps_has_none() -> None:
    reader = OpinionReader(nn.Flatten(), OpinionSettings(pixels=30), "no maps")
    assert reader.heat(Radiograph(np.zeros((40, 60), np.float32)), FrontalFrame(0, 20, 40)) is None
