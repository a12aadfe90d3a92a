"""Virtual patients of many people as a study index whose patients are the people."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

from stage_scripts import step

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from people_phantoms import phantom

from xray2ctpa_core.data.index import read_index
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.simulation.people.person import SUFFIX, save_person
from xray2ctpa_core.simulation.signs import sign_probability

SMALL = ["grid=[16,16,16]", "pixels=64", "finer=[1,1,1]", "people_mm=8.0", "patients=2",
         'without=["nobody there"]']  # fmt: skip


def test_people_become_studies_with_volume_radiograph_map_and_signs_split_by_person(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = tmp_path / "packed"
    people.mkdir()
    for name in ("a", "b"):
        save_person(phantom(name), people / f"{name}{SUFFIX}")
    sets = [*SMALL, f"people={people}", "validated=[]"]
    assert step(repository, "systems", "data", tmp_path, *sets, 'tested=["b"]') == 0
    studies = read_index(tmp_path / "data" / "studies.csv")
    assert [(study.id, study.patient, study.split) for study in studies] == [
        ("a-000000", "a", "train"), ("a-000001", "a", "train"),
        ("b-000000", "b", "test"), ("b-000001", "b", "test"),
    ]  # fmt: skip
    for study in studies:
        assert study.volume is not None
        assert study.radiograph is not None
        assert study.map is not None
        assert study.findings is not None
        volume = read_volume(study.volume)
        assert volume.array.shape == (16, 16, 16)
        assert volume.array.min() < -500 < 0 < volume.array.max()
        assert read_radiograph(study.radiograph).pixels.shape == (64, 64)
        assert np.load(study.map).shape[0] == 3
        record = json.loads(study.findings.read_text())
        assert study.label == int(record["pe"])
        assert set(record["signs"]) == {"opacity", "effusion", "oedema", "cardiomegaly"}, "what can be drawn"
        assert record["sign_probability"] == sign_probability(record["signs"])
    first = read_volume(studies[0].volume).array
    assert not np.array_equal(first, read_volume(studies[1].volume).array)
    (studies[1].findings.parent / "patient.json").unlink()
    (tmp_path / "data" / "studies.csv").unlink()
    assert step(repository, "systems", "data", tmp_path, *sets, "tested=[]") == 0
    again = read_index(tmp_path / "data" / "studies.csv")
    assert [study.split for study in again] == [None] * 4
    assert np.array_equal(first, read_volume(again[0].volume).array)
    (tmp_path / "data" / "studies.csv").unlink()
    assert step(repository, "systems", "data", tmp_path, *sets, 'tested=["c"]') == 2
    assert "got c. Take names out of a, b" in capsys.readouterr().err
