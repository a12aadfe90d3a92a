"""Open pairs: real radiographs against CTs of the same patients, on phantoms whose right answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from commons import series
from ct_series import write_series
from evaluation_cohort import ArithmeticPipeline, bundle
from io_radiographs import write_dicom
from test_evaluation_people import CONFIG, thorax

from xray2ctpa_core.data.open_pairs.pairs import select_pairs
from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE
from xray2ctpa_core.data.open_pairs.rules import Rules
from xray2ctpa_core.data.open_pairs.table import write_pairs
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.open_pairs import SCHEMA_FILE, PairedPerson, evaluate_open_pairs
from xray2ctpa_core.evaluation.report import markdown
from xray2ctpa_core.evaluation.run import evaluate
from xray2ctpa_core.evaluation.store import RowStore
from xray2ctpa_core.volume import FrontalFrame

#: Width of the heart in voxels and split of each patient.
PATIENTS = {"a": (8, "train"), "b": (12, "test"), "c": (16, "test"), "d": (20, "validation")}


def locate(_radiograph) -> FrontalFrame:
    return FrontalFrame(0.0, 0.0, 64.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients as DICOM, as fetch and prepare leave them."""
    folder = tmp_path_factory.mktemp("cohort")
    lines = ["id,patient,volume,radiograph,label,split"]
    for name, (heart, split) in PATIENTS.items():
        write_series(folder / name / "ct", thorax(heart))
        (folder / name / "cxr").mkdir()
        write_dicom(folder / name / "cxr" / "1.dcm")
        lines.append(f"{name},{name},{name}/ct,{name}/cxr,,{split}")
    (folder / STUDIES_FILE).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def evaluated(cohort: Path) -> dict:
    """A pipeline that draws patient b into everybody."""
    studies = {study.id: study for study in read_folder(cohort, cohort / STUDIES_FILE)}
    pipeline = ArithmeticPipeline(PairedPerson(studies["b"], bundle().geometry, locate).hu)
    named = [("one person", pipeline)]
    return evaluate_open_pairs(cohort, named, CONFIG, RowStore(None), lambda *_: None, locate)


def test_only_the_test_split_is_measured_beside_the_others(evaluated: dict) -> None:
    assert evaluated["pairs"] == ["b", "c"]
    methods = {entry["method"]: entry for entry in evaluated["images"]}
    assert methods["one sample"]["patients"] == 2
    assert methods["mean of other volumes"]["patients"] == 2


def test_a_volume_that_is_one_persons_fits_each_wrong_patient_by_chance(evaluated: dict) -> None:
    (match,) = evaluated["matches"]
    assert match["share"]["estimate"] == 0.5  # b's volume is right for b and wrong for c
    assert match["right"]["estimate"] == pytest.approx(match["wrong"]["estimate"], abs=0.02)


def test_organs_of_the_own_volume_are_the_own_ones_and_of_another_others(evaluated: dict) -> None:
    rows = {entry["method"]: entry for entry in evaluated["organs"]}
    assert list(rows)[-1] == "the patient's own CT"
    made, own = rows["one sample"], rows["the patient's own CT"]
    assert 1000 < own["lung_ml"]["estimate"] < 15000
    assert abs(made["lung_difference"]["estimate"]) < 0.03
    assert made["lung_dice"]["estimate"] > 0.97
    assert 0.9 < made["heart_dice"]["estimate"] < 0.998  # right for b; c has a heart of 80 mm, not 60
    assert {"lung_dice", "heart_dice"} <= rows["mean of other volumes"].keys()
    assert "lung_dice" not in own


def test_the_result_is_what_its_schema_says(evaluated: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the dev extra")
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    named = {"settings": {"images": 8, "samples": 4, "steps": 0, "seed": 0}, "bundles": {"one": "1 abc"}}
    whole = named | {"open_pairs": [evaluated], "images": [], "differences": [], "frechet": []}
    written = json.loads(json.dumps(whole))
    assert not list(validator.iter_errors(written))
    for change in ({"protocol": "1"}, {"organs": [{"bundle": "a"}]}, {"more": 1}):
        assert list(validator.iter_errors({**written, "open_pairs": [evaluated | change]})), change


def test_a_stopped_evaluation_goes_on_without_generating_again(cohort: Path, tmp_path: Path) -> None:
    studies = {study.id: study for study in read_folder(cohort, cohort / STUDIES_FILE)}
    pipeline = ArithmeticPipeline(PairedPerson(studies["b"], bundle().geometry, locate).hu)

    def measure() -> dict:
        store = RowStore(tmp_path / "rows.jsonl")
        named = [("one person", pipeline)]
        return evaluate_open_pairs(cohort, named, CONFIG, store, lambda *_: None, locate, tmp_path)

    first = measure()
    assert len(list(tmp_path.glob("baselines-*.npz"))) == 1
    calls = len(pipeline.calls)
    assert calls == 4, "one sample and the mean of several of each of two patients"
    assert measure() == first
    assert len(pipeline.calls) == calls


def test_the_report_says_protocol_and_chance(evaluated: dict) -> None:
    empty = {"images": [], "differences": [], "classification": [], "gradcam": [], "hottest": []}
    text = markdown({**empty, "open_pairs": [evaluated]})
    assert "## Open pairs, test split" in text
    assert "| one person | 2 |" in text
    assert f"Protocol 3; 2 pairs; selection none, studies {evaluated['cohort'][:12]}." in text


def again(cohort: Path, out: Path, *more: str) -> Path:
    """The cohort with more rows in its table."""
    out.mkdir()
    for name in PATIENTS:
        (out / name).symlink_to(cohort / name)
    text = (cohort / STUDIES_FILE).read_text() + "".join(f"{line}\n" for line in more)
    (out / STUDIES_FILE).write_text(text)
    return out


def test_examinations_of_one_patient_are_one_observation(
    cohort: Path, evaluated: dict, tmp_path: Path
) -> None:
    """Patient b twice, and nobody else twice: neither n grows, nor is b's other CT a wrong patient's."""
    twice = again(cohort, tmp_path / "twice", "b2,b,b/ct,b/cxr,,test")
    studies = {study.id: study for study in read_folder(twice, twice / STUDIES_FILE)}
    pipeline = ArithmeticPipeline(PairedPerson(studies["b"], bundle().geometry, locate).hu)
    found = evaluate_open_pairs(
        twice, [("one person", pipeline)], CONFIG, RowStore(None), lambda *_: None, locate
    )
    assert found["pairs"] == ["b", "c", "b2"]
    for kind in ("matches", "organs", "images", "differences"):
        for entry, before in zip(found[kind], evaluated[kind], strict=True):
            numbers = {name: value for name, value in entry.items() if isinstance(value, dict)}
            assert entry.get("patients", 2) == 2
            assert len(numbers) >= 2
            for name, number in numbers.items():
                assert number["n"] == before[name]["n"] <= 2
                assert number["estimate"] == pytest.approx(before[name]["estimate"], rel=0.02, abs=0.02), name


def test_a_flat_volume_fits_nobody(cohort: Path) -> None:
    pipeline = ArithmeticPipeline(np.full((16, 32, 32), -3000.0))
    found = evaluate_open_pairs(cohort, [("flat", pipeline)], CONFIG, RowStore(None), lambda *_: None, locate)
    (match,) = found["matches"]
    assert match["right"]["estimate"] == match["wrong"]["estimate"] == 0
    assert match["share"] == {"estimate": 0.5, "lower": None, "upper": None, "n": 2}


def test_studies_that_are_not_the_selections_are_refused(cohort: Path, tmp_path: Path) -> None:
    """The test split is the stored one, whatever somebody made of the study table."""
    rows = [
        one
        for name in PATIENTS
        for one in (series(f"ct {name}", patient=name), series(f"x {name}", "CR", patient=name))
    ]
    pairs = select_pairs(rows, Rules())
    write_pairs(tmp_path, pairs, Rules(), "25.0.5")
    lines = ["id,patient,volume,radiograph,label,split"]
    for pair in pairs:
        name = pair.ct.patient
        (tmp_path / name).symlink_to(cohort / name)
        lines.append(f"{pair.id},{name},{name}/ct,{name}/cxr,,{pair.split}")

    def refused(text: str) -> str:
        (tmp_path / STUDIES_FILE).write_text(text)
        pipeline = ArithmeticPipeline(np.zeros((16, 32, 32)))
        with pytest.raises(InputError) as error:
            evaluate_open_pairs(tmp_path, [("", pipeline)], CONFIG, RowStore(None), lambda *_: None, locate)
        return error.value.message

    other = {"train": "test", "validation": "test", "test": "train"}[pairs[0].split]
    moved = lines[1].rpartition(",")[0] + f",{other}"
    assert f"of the split {other}, there {pairs[0].split}" in refused(
        "\n".join([lines[0], moved, *lines[2:]])
    )
    assert "there missing" in refused(
        "\n".join([lines[0], "more-" + lines[1], *lines[1:]]).replace(
            f"more-{pairs[0].id},{pairs[0].ct.patient}", f"more,{pairs[0].ct.patient}"
        )
    )


def test_a_cohort_without_a_test_split_is_refused(cohort: Path, tmp_path: Path) -> None:
    text = (cohort / STUDIES_FILE).read_text().replace(",test", ",train")
    (tmp_path / STUDIES_FILE).write_text(text)
    for name in PATIENTS:
        (tmp_path / name).symlink_to(cohort / name)
    with pytest.raises(InputError, match="test split"):
        evaluate(None, None, [ArithmeticPipeline(np.zeros((16, 32, 32)))], CONFIG, open_pairs=[tmp_path])
