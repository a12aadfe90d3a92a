"""Real radiographs without labels: how many show a sign is taught, which of them is left to what is seen."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_stages import encoder, radiographs_of_the_second_sign
from torch.utils.data import Dataset

from xray2ctpa_core.constants import FRAME_PIXELS
from xray2ctpa_core.data.real_radiographs import (
    SIGN_RATES,
    RealRadiographs,
    WithRealRadiographs,
    is_held_back,
    radiographs_to_learn_from,
)
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.training.stages.xray_encoder import XrayEncoderStage
from xray2ctpa_core.volume import FrontalFrame

CORE = Path(__file__).resolve().parents[2] / "X-ray2CTPACore" / "xray2ctpa_core"
EFFUSION = [sign.name for sign in SIGNS].index("effusion")
#: Real radiographs of which one in eight has what is effusion in virtual radiographs.
REAL = 16


@pytest.fixture(scope="module")
def locator() -> LungLocator:
    folder = CORE / "bundles" / "virtual-thorax" / "lung_locator"
    return LungLocator.from_pretrained(folder, torch_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same radiograph of thirty patients, the first of whom has two."""
    folder = tmp_path_factory.mktemp("radiographs")
    for name in ["0_000", *(f"{patient}_001" for patient in range(30))]:
        shutil.copyfile(CORE / "samples" / "demo-patient-cxr.png", folder / f"{name}.png")
    return folder


def quiet(done: int, of: int) -> None:
    assert 0 < done <= of


def real_radiographs() -> torch.Tensor:
    """Each has a faint patch that no virtual radiograph has; in every eighth it is as bright as fluid."""
    torch.manual_seed(2)
    images = 0.1 * torch.rand(REAL, 1, 64, 64)
    images[:, :, 40:56, 8:24] = 0.3
    images[::8, :, 40:56, 8:24] = 1.0
    return images


def learn(module: XrayEncoder, steps: int, learning_rate: float, real: torch.Tensor | None) -> None:
    """Some steps on virtual radiographs, with real ones beside them."""
    data, real_weight = radiographs_of_the_second_sign(), 0.0 if real is None else 0.3
    stage = XrayEncoderStage(module, 0.0, 0.0, torch.ones(1, 2, 1, 1, 1), 4, 1.0, real_weight)
    optimiser = torch.optim.Adam(stage.module.parameters(), learning_rate)
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        drawn = {} if real is None else {"real_image": real[torch.randperm(REAL, generator=generator)[:4]]}
        loss, _ = stage.loss(stage.module, data | drawn, torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_real_radiographs_learn_how_many_show_a_sign_and_those_that_do_keep_it() -> None:
    module, virtual, real = (
        encoder(atlas=False, sign_maps=len(SIGNS)),
        radiographs_of_the_second_sign()["image"],
        real_radiographs(),
    )

    def shown(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return module(images).strongest_signs[:, EFFUSION, 0].sigmoid()

    learn(module, 80, 3e-3, None)
    assert shown(real).min() > 0.8, "what no virtual radiograph has is taken for the sign"
    learn(module, 150, 1e-3, real)
    fluid = torch.arange(REAL) % 8 == 0
    assert shown(real)[fluid].min() > 0.8
    assert shown(real)[~fluid].max() < 0.2
    assert shown(virtual)[:2].min() > 0.8
    assert shown(virtual)[2:].max() < 0.2


def test_the_pull_ends_where_the_radiographs_before_show_a_sign_at_its_rate() -> None:
    stage = XrayEncoderStage(encoder(False, len(SIGNS)), 0.0, 0.0, torch.ones(1, 2, 1, 1, 1), 4, 1.0, 1.0)
    slopes = {}
    for mean in (0.9, SIGN_RATES["effusion"], 0.01):
        stage.module.real_mean.fill_(SIGN_RATES["opacity"])
        stage.module.real_mean[EFFUSION] = mean
        shown = torch.full((4, len(SIGNS)), 0.5, requires_grad=True)
        stage.module.rate_error(shown).backward()
        slopes[mean] = shown.grad.clone()
        assert stage.module.real_mean[EFFUSION] == pytest.approx(0.7 * mean + 0.3 * 0.5)
    assert (slopes[0.9][:, EFFUSION] > 1).all()
    assert torch.allclose(slopes[SIGN_RATES["effusion"]], torch.zeros(4, len(SIGNS)), atol=1e-6)
    assert (slopes[0.01][:, EFFUSION] < -1).all()
    for gradient in slopes.values():
        assert (gradient.count_nonzero(0) > 0).sum() <= 1, "no other sign is pulled"


def test_all_radiographs_of_a_patient_are_held_back_or_none() -> None:
    held = [is_held_back(Path(f"{patient:08}_000.jpg")) for patient in range(900)]
    again = [is_held_back(Path(f"elsewhere/{patient:08}_017.png")) for patient in range(900)]
    assert held == again
    assert 250 < sum(held) < 350


def test_radiographs_that_are_held_back_or_refused_teach_nothing(
    radiographs: Path, locator: LungLocator, tmp_path: Path
) -> None:
    learned, taught = radiographs_to_learn_from(radiographs, locator, "a hospital", quiet)
    names = sorted(path.name for path in radiographs.iterdir() if not is_held_back(path))
    assert sorted(taught.sha256) == names
    assert len(learned) == len(names) < 31
    assert set(taught.sha256.values()) == {file_sha256(radiographs / names[0])}
    refused = tmp_path / names[0]
    shutil.copyfile(radiographs / names[0], refused)
    from PIL import Image

    with Image.open(refused) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(refused)
    with pytest.raises(InputError, match="found none to train on"):
        radiographs_to_learn_from(tmp_path, locator, "", quiet)


def test_a_radiograph_is_drawn_by_the_items_seed_and_each_time_a_little_otherwise() -> None:
    class Virtual(Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return 7

        def __getitem__(self, item: Any) -> dict[str, torch.Tensor]:
            return {"label": torch.tensor(float(item[0]))}

    rng = np.random.default_rng(0)
    pixels = np.cumsum(rng.random((64, 64), dtype=np.float32), 0) / 64
    data = WithRealRadiographs(
        Virtual(), RealRadiographs([(pixels, FrontalFrame(top=4.0, left=4.0, side=56.0))])
    )
    assert len(data) == 7
    first, again, other = (data[3, seed]["real_image"] for seed in (5, 5, 6))
    assert first.shape == (1, FRAME_PIXELS, FRAME_PIXELS)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] > 0.8, "the same radiograph"
    assert float(data[3, 5]["label"]) == 3
