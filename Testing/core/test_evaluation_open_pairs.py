"""Open pairs: real radiographs against CTs of the same patients, on phantoms whose right answer is known."""

from pathlib import Path

import numpy as np
import pytest
from ct_series import write_series
from evaluation_cohort import ArithmeticPipeline, bundle
from io_radiographs import write_dicom
from test_evaluation_people import CONFIG, thorax

from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.open_pairs import PairedPerson, evaluate_open_pairs, litres
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


def test_lungs_are_compared_in_litres(evaluated: dict) -> None:
    (lungs,) = evaluated["lungs"]
    assert 1 < lungs["real"]["estimate"] < 15
    assert abs(lungs["difference"]["estimate"]) < 0.1
    hu = np.full((20, 20, 20), 40.0)
    hu[5:15, 4:9, 4:9] = -850
    hu[5:15, 4:9, 11:16] = -850
    assert litres(hu, (10.0, 10.0, 10.0)) == pytest.approx(0.5)


def test_the_report_says_protocol_and_chance(evaluated: dict) -> None:
    empty = {"images": [], "differences": [], "classification": [], "gradcam": [], "hottest": []}
    text = markdown({**empty, "open_pairs": [evaluated]})
    assert "## Open pairs, test split" in text
    assert "| one person | 2 |" in text
    assert f"Protocol 1, cohort {evaluated['cohort'][:12]}" in text


def test_a_cohort_without_a_test_split_is_refused(cohort: Path, tmp_path: Path) -> None:
    text = (cohort / STUDIES_FILE).read_text().replace(",test", ",train")
    (tmp_path / STUDIES_FILE).write_text(text)
    for name in PATIENTS:
        (tmp_path / name).symlink_to(cohort / name)
    with pytest.raises(InputError, match="test split"):
        evaluate(None, None, [ArithmeticPipeline(np.zeros((16, 32, 32)))], CONFIG, open_pairs=[tmp_path])
