"""People's CTs: where the frame lies, the radiograph computed from the CT, who is measured beside whom."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from evaluation_cohort import GRID, ArithmeticPipeline, bundle, write_patient

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation import people as people_module
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.patients import CohortPatient
from xray2ctpa_core.evaluation.people import Person, name_of, people_below, unenhanced
from xray2ctpa_core.evaluation.report import markdown
from xray2ctpa_core.evaluation.run import evaluate
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.metrics import features
from xray2ctpa_core.pipelines.bundle import PEOperatingPoint
from xray2ctpa_core.pipelines.consistency import agreement
from xray2ctpa_core.volume import Volume, axial_affine

SHAPE = (60, 56, 72)  # voxels of 5 mm


@pytest.fixture(scope="module", autouse=True)
def small_slices():
    """Small slices and projections: a tenth of the time, the same code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "PLANE_PIXELS", 32)
        patch.setattr(people_module, "PROJECTED", (80, 64, 80))
        patch.setattr(people_module, "CONTINUED_MM", 60.0)
        yield


CONFIG = EvaluationConfig(images=8, multi=0, samples=4, auroc=0)


def thorax(heart: int = 12, blood: float = 40.0) -> Volume:
    """Lungs of 200 mm height, 260 mm over both, the patient's left one 40 mm shorter; ``heart`` voxels of
    ``blood`` HU wide between them; spine of 400 HU behind; in scanner coordinates far from 0."""
    hu = np.full(SHAPE, -1000.0)
    hu[:, 4:52, 4:68] = 40
    hu[8:48, 10:46, 10:28] = -850
    hu[16:48, 10:46, 44:62] = -850
    hu[9:47, 11:33, 36 - heart // 2 : 36 + heart // 2] = blood
    hu[:, 38:48, 33:39] = 400
    return Volume(hu, axial_affine(SHAPE, (300.0, 280.0, 360.0), (120.0, -300.0, 900.0)))


def write(folder: Path, name: str, volume: Volume) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(volume, folder / f"{name}.nii.gz", np.int16)
    return folder / f"{name}.nii.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three people with contrast medium, hearts of 12, 14 and 16 voxels, and one without."""
    place = tmp_path_factory.mktemp("people")
    for name, heart in (("a", 12), ("b", 14), ("c", 16)):
        write(place, name, thorax(heart, 300.0))
    write(place / "deeper", "d", thorax())
    return place


@pytest.fixture
def geometry():
    return bundle().geometry


def test_the_frame_is_as_large_as_the_lungs_that_the_radiograph_shows(folder, geometry):
    volume = Person(folder / "a.nii.gz", geometry).volume
    assert volume.array.shape == GRID
    x, y, z = volume.spacing
    # 260 mm over both lungs, seen in perspective up to 3 % wider, read to 4 mm
    assert x * GRID[2] == pytest.approx(1.18 * 260, rel=0.05)
    assert z * GRID[0] == pytest.approx(x * GRID[2])
    assert y * GRID[1] == pytest.approx(0.8 * x * GRID[2])
    middle = volume.affine @ [*(np.array(GRID)[::-1] - 1) / 2, 1]
    # lungs from 20 to 240 mm above the scan's lower edge of 750 mm; their middle is 16 mm behind the frame's
    assert middle[:3] == pytest.approx([120, -300 - 140 + 140 - 16, 750 + 140], abs=8)


def test_the_radiograph_shows_the_ct_the_right_way_round(folder, geometry):
    person = Person(folder / "deeper" / "d.nii.gz", geometry)
    x, y, _ = person.volume.spacing
    side = x * GRID[2]
    image = person.frame_image(GRID[2])
    right_way = agreement(person.hu, image, side, y * GRID[1] / side)
    mirrored = agreement(person.hu[:, :, ::-1], image, side, y * GRID[1] / side)
    assert right_way > 0.8
    assert right_way > mirrored + 0.05
    assert right_way > 0.05 + agreement(person.hu[::-1], image, side, y * GRID[1] / side)


def test_contrast_medium_between_the_lungs_is_taken_out_and_bone_stays():
    ct = thorax(12, 300.0)
    lungs = ct.array < -400
    lungs[:, [0, 1, 2, 3, -1, -2, -3, -4]] = False
    lungs[:, :, :4] = lungs[:, :, -4:] = False
    native, enhanced = unenhanced(ct, lungs)
    assert enhanced
    assert native.array[30, 20, 36] == 50
    assert native.array[30, 42, 36] == 400
    plain = thorax()
    same, enhanced = unenhanced(plain, lungs)
    assert not enhanced
    assert np.array_equal(same.array, plain.array)


@pytest.fixture(scope="module")
def evaluated(folder, tmp_path_factory) -> tuple[dict, Path]:
    """All four measured with a pipeline whose samples are person b and noise; and where the rows are."""
    out = tmp_path_factory.mktemp("out")
    pipeline = ArithmeticPipeline(Person(folder / "b.nii.gz", bundle().geometry).hu)
    return evaluate(None, None, [pipeline], CONFIG, out=out, people=[folder]), out


def test_only_people_with_contrast_medium_have_a_heart_to_compare(evaluated):
    people = evaluated[0]["people"]
    assert people["enhanced"] == ["a", "b", "c"]
    (one,) = [e for e in people["images"] if e["method"] == "one sample"]
    assert one["patients"] == 4
    assert one["lung_dice_3d"]["n"] == 4
    assert one["heart_dice_3d"]["n"] == one["chamber_error"]["n"] == 3
    assert one["chamber_hu"]["estimate"] == pytest.approx(300, abs=30)


def test_the_report_leads_with_people_and_names_them(evaluated):
    text = markdown(evaluated[0])
    assert text.startswith("## Unseen people")
    assert "n = 3 |" in text
    assert "measured on a, b, c, d; with contrast medium: a, b, c; left out, for they taught it: none" in text


def test_each_person_is_measured_beside_the_others_alone(evaluated, folder):
    summary, out = evaluated
    assert json.loads(json.dumps(summary)) == summary
    people = summary["people"]
    assert people["people"] == {"arithmetic": ["a", "b", "c", "d"]}
    rows = [json.loads(line)["row"] for line in (out / "rows.jsonl").read_text().splitlines()]
    means = [e for e in people["images"] if e["method"] == "mean of other volumes"]
    assert means[0]["psnr"]["estimate"] < 40, "nobody is in his own mean"
    nearest = [e for e in people["images"] if e["method"] == "nearest other radiograph's volume"]
    assert nearest[0]["mae"]["estimate"] > 0, "nobody is his own neighbour"
    assert {"axial", "coronal", "sagittal", "planes"} <= set(people["frechet"][0])
    assert len(rows) == 4 * 6
    again = ArithmeticPipeline(None)
    assert evaluate(None, None, [again], CONFIG, out=out, people=[folder]) == summary
    assert again.calls == []


def test_who_taught_a_bundle_is_left_out_by_name(folder):
    pipeline = ArithmeticPipeline(Person(folder / "b.nii.gz", bundle().geometry).hu)
    pipeline.bundle = bundle(training={"people": ["b", "d", "elsewhere"]})
    people = evaluate(None, None, [pipeline], CONFIG, people=[folder])["people"]
    assert people["people"] == {"arithmetic": ["a", "c"]}
    assert people["left_out"] == {"arithmetic": ["b", "d"]}
    pipeline.bundle = bundle(training={"people": ["a", "b", "c"]})
    with pytest.raises(InputError, match="2 people or more who taught arithmetic nothing, got 1 of 4"):
        evaluate(None, None, [pipeline], CONFIG, people=[folder])


def test_as_folds_each_is_measured_with_the_bundle_he_did_not_teach_beside_all_others(folder):
    hu = {name: Person(folder / f"{name}.nii.gz", bundle().geometry).hu for name in "ab"}
    first, second = ArithmeticPipeline(hu["a"]), ArithmeticPipeline(hu["b"])
    first.bundle = bundle(training={"people": ["b", "c", "d"]})
    second.bundle = bundle(training={"people": ["a", "d"]})
    config = dataclasses.replace(CONFIG, folds=True)

    people = evaluate(None, None, [first, second], config, people=[folder])["people"]

    assert people["people"] == {"arithmetic, 2 folds": ["a", "b", "c"]}
    assert people["left_out"] == {"arithmetic, 2 folds": ["d"]}
    assert (len(first.calls), len(second.calls)) == (2, 4), "a alone by the first: one sample and several"
    mean = next(e for e in people["images"] if e["method"] == "mean of other volumes")
    assert mean["patients"] == 3


def test_pe_of_virtual_patients_is_pooled_over_folds_that_did_not_know_their_person(tmp_path):
    """Of patients 0 to 7 the odd ones have PE; both folds are sure of them, on scales far apart."""
    for number in range(8):
        patient = write_patient(tmp_path / "drawn", number, pe=number % 2 == 1, heart=4 + 4 * (number % 2))
        place = tmp_path / "people" / "ab"[number // 4] / patient.name
        place.parent.mkdir(parents=True, exist_ok=True)
        patient.rename(place)
        record = json.loads((place / "patient.json").read_text(encoding="utf-8"))
        record |= {"person": place.parent.name}
        (place / "patient.json").write_text(json.dumps(record), encoding="utf-8")
    template = CohortPatient(place).hu
    unlike_a = bundle(training={"people": ["b"]})
    unlike_b = bundle(training={"people": ["a"]}, pe=PEOperatingPoint(0.5, 1.0, -900.0, True))
    first, second = ArithmeticPipeline(template, unlike_a), ArithmeticPipeline(template, unlike_b)
    second.classify = lambda latents: latents.mean(dim=(1, 2, 3, 4)) + 900
    config = EvaluationConfig(images=0, multi=0, samples=2, auroc=8, folds=True)

    summary = evaluate(tmp_path / "people", None, [first, second], config)

    assert (first.calls, second.calls) == ([1] * 4, [1] * 4)
    real = next(e for e in summary["classification"] if e["score"] == "real latents")
    assert (real["bundle"], real["auroc"]["estimate"], real["auroc"]["n"]) == ("arithmetic, 2 folds", 1.0, 8)
    (said,) = summary["decisions"]
    assert said["threshold"] is None
    assert 0 <= said["ece"] <= 1
    assert "sensitivity" not in said, "each fold has its own threshold"
    assert re.search(r"\| arithmetic, 2 folds +\| 8 +\| - +\|", markdown(summary))
    write_patient(tmp_path / "nobody", 0, pe=False, heart=4)
    with pytest.raises(InputError, match="got 000000 without one"):
        evaluate(tmp_path / "nobody", None, [first], config)


def test_fewer_people_are_taken_evenly_and_all_make_the_baselines(folder):
    pipeline = ArithmeticPipeline(Person(folder / "b.nii.gz", bundle().geometry).hu)
    config = EvaluationConfig(images=2, multi=0, samples=2, auroc=0)
    people = evaluate(None, None, [pipeline], config, people=[folder])["people"]
    assert people["people"] == {"arithmetic": ["a", "d"]}
    assert people["frechet"] == [], "two are too few for an interval"


def test_files_are_found_at_any_depth_each_person_once(folder, tmp_path):
    assert [name_of(file) for file in people_below([folder])] == ["a", "b", "c", "d"]
    assert name_of(Path("x.y.nii")) == "x.y"
    with pytest.raises(InputError, match="found none"):
        people_below([tmp_path])
    with pytest.raises(InputError, match="each person once, got d"):
        people_below([folder, folder / "deeper"])


def test_a_ct_without_lungs_is_named(tmp_path, geometry):
    box = np.full(SHAPE, 40.0)
    box[:, :6] = box[:, -6:] = -1000.0
    file = write(tmp_path, "box", Volume(box, thorax().affine))
    with pytest.raises(InputError, match=r"box\.nii\.gz: Expected the lungs"):
        _ = Person(file, geometry).hu


@pytest.mark.slow
def test_a_real_ct_becomes_a_radiograph_that_agrees_with_it(repository, geometry):
    file = repository.parent / "shared" / "data" / "ct" / "qinlung-LSC-0003.nii.gz"
    if not file.is_file():
        pytest.skip(f"{file.name} is not there")
    person = Person(file, geometry)
    x, y, _ = person.volume.spacing
    side = x * GRID[2]
    assert side == pytest.approx(349, abs=5)
    assert person.enhanced
    assert agreement(person.hu, person.frame_image(GRID[2]), side, y * GRID[1] / side) > 0.9
