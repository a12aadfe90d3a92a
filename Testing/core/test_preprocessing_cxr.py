"""The papers' radiograph input: size, normalisation, aspect."""

import numpy as np
import pytest

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.preprocessing.cxr import CxrSettings, radiograph_image

BLACK, WHITE = (0 - 0.633) / 0.181, (1 - 0.633) / 0.181


def test_a_radiograph_keeps_its_aspect_between_black_bars() -> None:
    image = radiograph_image(np.ones((200, 100), np.float32), CxrSettings())

    assert image.shape == (224, 224)
    assert image.dtype == np.float32
    assert image[:, :56] == pytest.approx(BLACK)
    assert image[:, 56:168] == pytest.approx(WHITE)
    assert image[:, 168:] == pytest.approx(BLACK)


def test_a_radiograph_is_squashed_on_request() -> None:
    image = radiograph_image(np.ones((200, 100), np.float32), CxrSettings(keep_aspect=False))

    assert image == pytest.approx(WHITE)


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_places_on_the_radiograph_stay_where_they_are(keep_aspect: bool) -> None:
    radiograph = np.zeros((400, 400), np.float32)
    radiograph[100:140, 300:340] = 1.0
    image = radiograph_image(radiograph, CxrSettings(pixels=100, keep_aspect=keep_aspect))

    row, column = np.argwhere(image > 0).mean(axis=0) + 0.5
    assert (row, column) == pytest.approx((30.0, 80.0), abs=0.6)


def test_unusable_radiographs_and_settings_are_refused() -> None:
    with pytest.raises(InputError, match="finite pixels"):
        radiograph_image(np.full((64, 64), np.nan), CxrSettings())
    with pytest.raises(ConfigError, match="std > 0"):
        CxrSettings(std=0.0)
