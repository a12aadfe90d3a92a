"""Quantiles of greys without ordering all of them."""

import numpy as np
import pytest

from xray2ctpa_core.io.greys import SCALE_SHARES, outer_quantiles

DRAWN = np.random.default_rng(0)
IMAGES = {
    "8 bits": DRAWN.integers(0, 256, (300, 400)).astype(np.float32),
    "smooth": DRAWN.normal(size=(300, 400)).astype(np.float32),
    "half black": np.where(np.arange(400) < 200, 0, DRAWN.random((300, 400))).astype(np.float32),
    "a bright corner that a sample misses": np.pad(np.full((3, 3), 9.0), ((0, 297), (0, 397))),
    "few": DRAWN.random((3, 5)),
    "one": np.ones((1, 1)),
}


@pytest.mark.parametrize("shares", [SCALE_SHARES, (0.0, 1.0), (0.1, 0.9), (0.4, 0.6)])
@pytest.mark.parametrize("name", IMAGES)
def test_outer_quantiles_are_those_of_all_values(name: str, shares: tuple[float, float]) -> None:
    expected = np.quantile(IMAGES[name], shares)
    found = outer_quantiles(IMAGES[name], shares)
    assert found == tuple(expected), "a last bit is amplified to HU by the sampler"
    assert isinstance(found[0], np.float64), "greys are scaled in double precision, as they always were"
