"""The opacity reader learns what fills the lungs along the rays of a radiograph."""

import sys
from pathlib import Path

import pytest
import torch
from stage_scripts import step

from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader
from xray2ctpa_core.simulation.people.person import SUFFIX, save_person
from xray2ctpa_core.training.stages.opacity_reader import OpacityReaderStage, shares_and_weight, varied

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from people_phantoms import phantom


def test_shares_are_of_the_lung_along_a_ray_and_rays_without_lung_do_not_count() -> None:
    opaque = torch.zeros(1, 4, 2, 2)
    opaque[0, :, 0, 0] = torch.tensor([60.0, 30.0, 6.0, 0.0])
    shares, weight = shares_and_weight(opaque)
    assert shares[0, :, 0, 0].tolist() == pytest.approx([0.5, 0.1, 0.0])
    assert weight[0, 0].tolist() == [[0.5, 0.0], [0.0, 0.0]]


def test_the_loss_is_least_for_the_true_shares() -> None:
    class Told(torch.nn.Module):
        def __init__(self, logits: torch.Tensor) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.logits

    opaque = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [200.0, 60.0, 60.0, 60.0]
    ).view(1, 4, 1, 1)
    batch = {"image": torch.rand(2, 1, 16, 16), "opaque": opaque}
    truth = shares_and_weight(opaque)[0].clamp(1e-4, 1 - 1e-4).logit()
    stage = OpacityReaderStage(OpacityReader((8, 8), 16))
    losses = [
        float(stage.loss(Told(logits), batch, torch.Generator().manual_seed(0))[0])
        for logits in (truth, truth + 0.5, truth - 0.5)
    ]
    assert losses[0] < min(losses[1:])


def test_gradation_varies_and_stays_within_the_greys() -> None:
    image = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(4, -1, -1, -1)
    made = varied(image, torch.Generator().manual_seed(0))
    assert made.min() >= 0
    assert made.max() <= 1
    assert (made[0] - made[1]).abs().mean() > 0.01
    assert (made - image).abs().mean() < 0.2


def test_it_is_trained_as_a_step_of_the_recipe(repository: Path, tmp_path: Path) -> None:
    people = tmp_path / "packed"
    people.mkdir()
    for name in ("a", "b"):
        save_person(phantom(name), people / f"{name}{SUFFIX}")
    sets = [f"people={people}", "people_mm=8", "kept=4", "grid=[16,16,16]", "pixels=32", "channels=[8,8]"]
    sets += ["size=32", "steps=2", "batch_size=2", "tensorboard=false"]
    assert step(repository, "people", "opacity-reader", tmp_path, *sets) == 0
    reader = OpacityReader.from_pretrained(tmp_path / "opacity-reader" / "opacity_reader")
    assert reader.shares(torch.rand(1, 1, 32, 32)).shape == (1, 2, 16, 16)
    assert tuple(reader.config["floor"]) == (0.3, 0.1)
