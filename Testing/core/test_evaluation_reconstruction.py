"""The table of systems on unseen people: one line a system, patients counted once."""

import numpy as np
import pytest
import torch

from xray2ctpa_core.evaluation.reconstruction import COLUMNS, image_scores, reconstruction_table


class Difference(torch.nn.Module):
    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return (image - reference).abs().mean((1, 2, 3))


def test_an_error_of_a_tenth_of_the_window_everywhere_is_20_db() -> None:
    rng = np.random.default_rng(0)
    reference = rng.uniform(-800, 800, (12, 12, 12)).astype(np.float32)
    scores = image_scores(reference + 200, reference, (-1000.0, 1000.0), Difference())
    assert scores["psnr"] == pytest.approx(20.0, abs=0.01)
    assert scores["x2ct_psnr"] == pytest.approx(20 * np.log10(4095 / 200), abs=0.01)
    assert scores["mae"] == pytest.approx(200, rel=1e-3)
    assert scores["perceptual"] == pytest.approx(0.2, rel=1e-3)
    assert set(scores) | {"seconds"} == {key for key, _, _ in COLUMNS}


def test_several_volumes_of_a_patient_count_once() -> None:
    def row(system: str, patient: str, value: float) -> dict[str, object]:
        return {"system": system, "patient": patient} | {key: value for key, _, _ in COLUMNS}

    rows = [
        row("b", "1", 10.0),
        row("b", "1", 20.0),
        row("b", "2", 25.0),
        row("a", "1", 3.0),
        row("a", "2", 5.0),
    ]
    lines = reconstruction_table(rows).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| b", "| a"]
    assert lines[2].split(" | ")[1] == "2"
    assert lines[2].split(" | ")[2].startswith("20.00 [")
    assert lines[3].split(" | ")[2].startswith("4.00 [")


def test_codecs_with_a_codebook_have_a_column_of_used_codes() -> None:
    rows = [
        {"system": name, "patient": "1"} | {key: 1.0 for key, _, _ in COLUMNS} for name in ("a", "codec:b")
    ]
    lines = reconstruction_table(rows, {"codec:b": 0.982}).splitlines()
    assert lines[0].endswith("| s a volume | codes used |")
    assert lines[1].count("---") == lines[0].count(" | ") + 1
    assert lines[2].endswith("| - |")
    assert lines[3].endswith("| 98.2 % |")
    assert "codes used" not in reconstruction_table(rows)
