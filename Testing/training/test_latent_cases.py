"""Latents join labels and radiographs; what does not fit is said with file and row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latent_data import read_all, write_latents, write_radiographs

from xray2ctpa_core.config import from_mapping
from xray2ctpa_core.data.latent_cases import first_volumes, radiograph_files, read_latent_cases
from xray2ctpa_core.data.latents import latent_scaling
from xray2ctpa_core.data.settings import ScalingConfig
from xray2ctpa_core.data.splits import by_fold, by_split
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.errors import ConfigError, InputError


def test_a_case_brings_scaled_latents_its_label_and_its_own_radiograph(tmp_path: Path) -> None:
    folder, radiographs = write_latents(tmp_path / "latents"), write_radiographs(tmp_path / "radiographs")
    cases = read_latent_cases(folder, labelled=True)
    scaling = latent_scaling(ScalingConfig(), folder)
    data = StudyData(cases, ("latents", "label", "image"), scaling, radiographs=radiographs)
    item = data[(6, 42)]
    raw = torch.from_numpy(read_all(folder)[6])
    assert torch.allclose(item["latents"], (raw - 1) / 2)
    assert (float(item["label"]), int(item["seed"]), float(item["image"].mean())) == (1.0, 42, 3.0)


def test_the_papers_range_is_theirs(tmp_path: Path) -> None:
    scaling = latent_scaling(ScalingConfig("min-max"), write_latents(tmp_path))
    values = torch.tensor([-12.911299, 9.596558, 0.0, 99.0]) / 0.18215
    scaled = scaling.apply(values.reshape(1, 1, 4, 1, 1).expand(1, 4, 4, 1, 1))
    assert scaled[0, 0].flatten().tolist() == pytest.approx([-1, 1, 0.1473, 1], abs=1e-4)
    assert scaling.invert(scaled)[0, 0, 0].item() == pytest.approx(-12.911299 / 0.18215, rel=1e-5)
    with pytest.raises(ConfigError, match="min-max"):
        from_mapping(ScalingConfig, {"scaling": "minmax"})


def test_half_of_the_draws_are_mirrored_with_their_radiographs(tmp_path: Path) -> None:
    folder, radiographs = write_latents(tmp_path / "latents"), write_radiographs(tmp_path / "radiographs")
    np.save(radiographs / "cases" / "s0" / "cxr.npy", np.arange(1024, dtype=np.float32).reshape(32, 32))
    cases = read_latent_cases(folder)
    plain, flipped = (
        StudyData(
            cases,
            ("latents", "image"),
            latent_scaling(ScalingConfig(), folder),
            radiographs=radiographs,
            flip=flip,
        )
        for flip in (0.0, 0.5)
    )
    mirrored = 0
    for seed in range(40):
        a, b = plain[(0, seed)], flipped[(0, seed)]
        turned = torch.equal(a["image"].flip(-1), b["image"])
        assert torch.equal(a["latents"].flip(-1) if turned else a["latents"], b["latents"])
        mirrored += turned
    assert 10 < mirrored < 30


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({3: {"label": "2"}}, r"label of 0 or 1, got '2' in .*index\.csv, row 5"),
        ({3: {"label": ""}}, r"label of 0 or 1, got '' in .*index\.csv, row 5"),
        ({1: {"split": "test"}}, r"one split, got p0 in train .*row 2\) and in test .*row 3"),
        ({5: {"split": "held-out"}}, r"split out of .* got 'held-out' in .*row 7"),
    ],
)
def test_a_bad_entry_is_named(change: dict[int, dict[str, Any]], said: str, tmp_path: Path) -> None:
    folder = write_latents(tmp_path, change)
    with pytest.raises(InputError, match=said):
        by_split(read_latent_cases(folder, labelled=True))


def test_missing_volumes_radiographs_and_numbers_are_named(tmp_path: Path) -> None:
    folder, radiographs = (
        write_latents(tmp_path / "latents"),
        write_radiographs(tmp_path / "radiographs", cases=5),
    )
    cases = read_latent_cases(folder)
    with pytest.raises(InputError, match=r"study s5 or patient p5 \(.*row 12\) in .*cases\.csv, got none"):
        radiograph_files(radiographs, cases)
    file = cases[4].latents
    latents = np.load(file)
    latents[0, 0] = np.nan
    np.save(file, latents)
    data = StudyData(cases, ("latents",), latent_scaling(ScalingConfig(), folder))
    with pytest.raises(InputError, match=r"64 NaN or infinite in .*000004\.npy .*row 6"):
        data[(4, 0)]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"latents of .*row 6 in .*000004\.npy, got ValueError"):
        data[(4, 0)]
    file.unlink()
    with pytest.raises(InputError, match=r"000004\.npy of .*index\.csv, row 6, got no such file"):
        read_latent_cases(folder)
    with pytest.raises(InputError, match=r"Expected index\.csv in .*none, found none"):
        read_latent_cases(tmp_path / "none")


def test_an_empty_split_and_an_empty_fold_are_named(tmp_path: Path) -> None:
    cases = read_latent_cases(write_latents(tmp_path))
    with pytest.raises(InputError, match=r"split test in .*index\.csv, got none"):
        by_split(cases[:8], needed=("train", "test"))
    with pytest.raises(
        InputError, match=r"at least 6 patients with label 0, one a fold, got 3 \(.*index\.csv, row 2;"
    ):
        by_fold(cases, 6, 0, 1)
    with pytest.raises(ConfigError, match="folds"):
        by_fold(cases, 3, 3, 1)


def test_each_patient_is_tested_once_and_never_trained_on_then(tmp_path: Path) -> None:
    cases = read_latent_cases(write_latents(tmp_path, cases=30))
    tested: list[str] = []
    for fold in range(6):
        parts = by_fold(cases[::-1] if fold % 2 else cases, 6, fold, seed=1)
        patients = {name: {case.patient for case in part} for name, part in parts.items()}
        assert not patients["train"] & (patients["test"] | patients["validation"])
        assert not patients["validation"] & patients["test"]
        assert {case.label for case in parts["test"]} == {0, 1}
        tested += sorted(patients["test"])
    assert sorted(tested) == sorted(case.patient for case in cases[::2])


def test_where_every_patient_has_studies_of_both_kinds_folds_are_stratified_by_study(tmp_path: Path) -> None:
    people = {row: {"patient": f"person{row % 12}", "label": str(row // 12 % 2)} for row in range(48)}
    cases = read_latent_cases(write_latents(tmp_path, people, cases=24))
    tested: list[str] = []
    for fold in range(6):
        parts = by_fold(cases[::-1] if fold % 2 else cases, 6, fold, seed=1)
        patients = {name: {case.patient for case in part} for name, part in parts.items()}
        assert not patients["train"] & (patients["test"] | patients["validation"])
        assert sorted(case.label for case in parts["test"]) == [0] * 4 + [1] * 4
        tested += patients["test"]
    assert sorted(tested) == sorted(f"person{n}" for n in range(12))


def test_a_missing_volume_and_a_study_without_label_are_named(tmp_path: Path) -> None:
    cases = read_latent_cases(write_latents(tmp_path, {2: {"label": ""}, 3: {"label": ""}}))
    with pytest.raises(InputError, match=r"s0-0\.nii\.gz of .*index\.csv, row 2, got no such file"):
        StudyData(cases[:2], ("volume", "label"), window=(-100, 900), labelled=True)
    with pytest.raises(InputError, match=r"label of 0 or 1, got none in .*index\.csv, row 4"):
        StudyData(cases, ("label",), labelled=True)
    with pytest.raises(InputError, match="at least one case"):
        StudyData(first_volumes([]), ("image",), radiographs=tmp_path)
