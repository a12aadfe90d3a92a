"""The fit of the heart's side: weights that tell mirrored radiographs apart, printed as the gate has them."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.preprocessing.sides import MIRRORED_FROM
from xray2ctpa_core.training.settings.gate import HeartSideSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Training"))
from steps import fit_heart_side


def test_mirroring_turns_what_the_weights_say_round() -> None:
    features = np.random.default_rng(0).normal(size=(40, 3)) + np.array((2.0, 0.0, 0.0))

    weights = fit_heart_side.weights_of(features, 1.0)

    assert weights[0] < -0.5  # upright features count against "mirrored"
    assert np.abs(weights[1:]).max() < 0.5
    assert ((features @ weights) < 0).mean() > 0.9


def test_rates_are_those_at_the_gates_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    threshold = math.log(MIRRORED_FROM / (1 - MIRRORED_FROM))

    fit_heart_side.report("four", np.array([-threshold - 1, -threshold - 1, -0.1, threshold + 1]))

    assert capsys.readouterr().out == (
        "four: of 4 radiographs 1 (25.0%) are called mirrored as they are, 2 (50.0%) when mirrored; "
        "the side is right in 75.0%.\n"
    )


def test_too_few_patients_are_refused_and_five_give_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "radiographs"
    folder.mkdir()
    chest = Image.open(SAMPLE_CXR)
    for patient in range(4):
        chest.save(folder / f"{patient}_0.png")
    with pytest.raises(InputError, match="at least 5 patients, got 4"):
        fit_heart_side.run(HeartSideSettings((str(folder),)), tmp_path / "out")
    chest.save(folder / "4_0.png")

    fit_heart_side.run(HeartSideSettings((str(folder),)), tmp_path / "out")

    rows = (tmp_path / "out" / "weights.txt").read_text().splitlines()
    assert [len(row.rstrip(",").split(", ")) for row in rows] == [8] * 8
    assert "the side is right in 100.0%" in capsys.readouterr().out
