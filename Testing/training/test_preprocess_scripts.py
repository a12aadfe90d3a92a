"""The preprocessing steps on data sets in their own layouts."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_series import phantom, write_rows, write_series
from io_radiographs import picture, write_dicom, write_raster
from latent_data import read_all
from stage_scripts import read, step

from xray2ctpa_core.data.index import read_index
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.io.volumes import read_volume, write_volume

RSPECT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "negative_exam_for_pe")


@pytest.fixture
def rspect(tmp_path: Path) -> Path:
    """Two readable examinations and, between them, one that lacks a slice."""
    root, rows = tmp_path / "rspect", []
    for number in range(3):
        series = root / f"1.{number}" / f"2.{number}"
        paths = write_series(series, phantom(clot_hu=200.0 * number))
        rows += [(f"1.{number}", f"2.{number}", path.stem, number % 2) for path in paths]
        if number == 1:
            paths[5].unlink()
    write_rows(root / "train.csv", RSPECT, rows)
    return root


def of(root: Path) -> list[str]:
    return ["dataset=rspect", f"root={root}", f"table={root / 'train.csv'}"]


def test_rspect_becomes_cases_and_the_bad_examination_is_logged(
    repository: Path, rspect: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ctpa"
    strict = step(repository, "smoke", "ctpa", tmp_path / "strict", *of(rspect), "workers=1")
    assert strict == 2
    assert "train.csv, row 19" in capsys.readouterr().err

    sets = [*of(rspect), "check_files=false", "workers=2"]
    assert step(repository, "smoke", "ctpa", tmp_path, *sets) == 0
    assert "2 of 3 cases are complete" in capsys.readouterr().out
    (error,) = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert error["id"] == "1.1"
    assert error["where"] == "train.csv, row 14"
    assert "40 mm between" in error["message"]
    assert (out / "cases.csv").read_text().splitlines() == [
        "id,patient,label,split,folder",
        "1.0,1.0,1,,cases/1.0",
        "1.2,1.2,1,,cases/1.2",
    ]
    volume = read_volume(out / "cases" / "1.0" / "ctpa-1.nii.gz")
    assert volume.array.shape == (8, 32, 32)
    assert volume.array.min() == -100

    before = (out / "cases" / "1.0" / "case.json").stat().st_mtime_ns
    write_series(rspect / "1.1" / "2.1", phantom())
    assert step(repository, "smoke", "ctpa", tmp_path, *of(rspect), "workers=1") == 0
    assert "3 of 3 cases are complete, 2 of them from before." in capsys.readouterr().out
    assert (out / "cases" / "1.0" / "case.json").stat().st_mtime_ns == before

    assert step(repository, "smoke", "ctpa", tmp_path, *of(rspect), "margin_mm=20", "workers=1") == 2
    assert "they differ in margin_mm" in capsys.readouterr().err


def test_the_command_has_a_cluster_preprocess_and_says_in_each_case_who_did(
    repository: Path, rspect: Path, tmp_path: Path
) -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra cluster brings Dask")
    sets = [f"ctpa.{change}" for change in (*of(rspect), "check_files=false")]
    command = [
        sys.executable,
        str(repository / "Training" / "preprocess.py"),
        "smoke",
        "--out",
        str(tmp_path),
    ]
    run = subprocess.run(
        [*command, "--only", "ctpa", "--set", *sets, "--cluster", "local:2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "2 of 3 cases are complete" in run.stdout
    cases = tmp_path / "ctpa" / "cases"
    assert sorted(case.name for case in cases.iterdir()) == ["1.0", "1.2"]
    records = [json.loads((case / "case.json").read_text()) for case in cases.iterdir()]
    assert {record["made_on"]["engine"].split()[0] for record in records} == {"dask"}


def test_a_run_in_which_everything_fails_says_so(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = phantom().array
    array[0] = np.nan
    (tmp_path / "data").mkdir()
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), tmp_path / "data" / "nan.nii.gz")
    done = step(repository, "smoke", "ctpa", tmp_path, f"root={tmp_path / 'data'}", "workers=1")

    assert done == 2
    said = capsys.readouterr().err
    assert "all 1 failed" in said
    assert "1024 NaN or infinite of 12288 in nan.nii.gz" in said


def test_radiographs_become_the_papers_input_and_this_projects(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_dicom(data / "one.dcm")
    write_raster(data / "two.png", (picture() * 255).astype(np.uint8))
    rows = [("one", 0), ("two", 1)]
    table = write_rows(data / "radiographs.csv", ("radiograph", "label"), rows)
    where = [f"root={data}", f"table={table}", "workers=1"]

    assert step(repository, "paper", "cxr", tmp_path, *where) == 0
    image = np.load(tmp_path / "cxr" / "cases" / "one" / "cxr.npy")
    assert image.shape == (224, 224)
    assert image.max() == pytest.approx((1 - 0.633) / 0.181, abs=1e-3)
    assert image[:, :22] == pytest.approx((0 - 0.633) / 0.181)  # 128 of 160 columns: bars of 22 pixels

    frame = [*where, "pixels=96", "force=true", "variants=2"]
    assert step(repository, "real-pairs", "radiographs", tmp_path, *frame) == 0
    case = tmp_path / "radiographs" / "cases" / "two"
    images = np.load(case / "cxr.npy")
    assert images.shape == (3, 96, 96)
    assert 0 <= images.min() < images.max() <= 1
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2])
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.5, "the same radiograph"
    record = json.loads((case / "case.json").read_text())
    assert 0 <= record["gate"]["is_frontal_cxr"] <= 1

    mixed = step(repository, "real-pairs", "radiographs", tmp_path / "mixed", *where, "mean=0.5")
    assert mixed == 2
    assert "Expected no mean with input=frame" in capsys.readouterr().err


def test_computed_radiographs_of_a_folder_are_read_as_radiographs(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffdrr", reason="DiffDRR comes with the training extra")
    data = tmp_path / "data"
    data.mkdir()
    write_volume(phantom(), data / "scan.nii.gz", np.int16)
    write_rows(
        data / "studies.csv",
        ("study", "patient", "volume", "label", "split"),
        [("s", "p", "scan", 1, "test")],
    )
    assert step(repository, "smoke", "drr", tmp_path, f"root={data}", "workers=1") == 0
    (made,) = read_index(tmp_path / "drr" / "studies.csv")
    assert (made.id, made.patient, made.label, made.split, made.volume) == ("s", "p", 1, "test", None)

    assert step(repository, "smoke", "drr-cxr", tmp_path, "workers=1") == 0
    image = np.load(tmp_path / "drr-cxr" / "cases" / "s" / "cxr.npy")
    # Lungs are darker than what lies between them.
    assert image[32, 20] < image[32, 32]
    assert image[32, 44] < image[32, 32]


def test_the_papers_and_the_releases_windows_are_what_they_published(
    repository: Path, tmp_path: Path
) -> None:
    windows = {
        name: next(s.settings.window for s in read(repository, name, tmp_path).steps if s.name == "ctpa")
        for name in ("paper", "paper-rspect", "release", "release-rspect", "release-lidc")
    }

    assert windows["paper"] == windows["paper-rspect"] == (-100, 900)
    assert windows["release"] == windows["release-rspect"] == (-200, 500)
    assert windows["release-lidc"] == (-1200, 600)


def test_preprocessed_volumes_become_latents(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import AutoencoderKL

    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        write_volume(phantom(clot_hu=300.0 * number), data / f"s{number}.nii.gz", np.int16)
    table = write_rows(data / "t.csv", ("volume", "label", "split"), [("s0", 0, "train"), ("s1", 1, "test")])
    where = [f"root={data}", f"table={table}", "workers=1"]
    assert step(repository, "smoke", "ctpa", tmp_path, *where) == 0
    AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32,), norm_num_groups=8
    ).save_pretrained(tmp_path / "vae")

    sets = ["radiographs=", f"autoencoder={tmp_path / 'vae'}"]
    refused = step(repository, "smoke", "latents", tmp_path, *sets, "hu_window=[-1000,900]")
    assert refused == 2
    assert "hu_window=[-100.0,900.0]" in capsys.readouterr().err
    assert step(repository, "smoke", "latents", tmp_path, *sets) == 0

    cases = read_latent_cases(tmp_path / "latents")
    assert [(case.id, case.label, case.split) for case in cases] == [
        ("s0", 0, "train"),
        ("s0", 0, "train"),
        ("s1", 1, "test"),
        ("s1", 1, "test"),
    ]
    latents = read_all(tmp_path / "latents")
    assert latents.shape == (4, 4, 8, 32, 32)
    statistics = json.loads((tmp_path / "latents" / "statistics.json").read_text())
    assert statistics["mean"] == pytest.approx(latents[:2].mean((0, 2, 3, 4)).tolist(), rel=1e-3)
    assert statistics["std"] == pytest.approx(latents[:2].std((0, 2, 3, 4)).tolist(), rel=1e-3)

    sets.append(f"studies={tmp_path / 'ctpa'}")
    one = [*sets, 'splits=["test"]']
    assert step(repository, "smoke", "latents", tmp_path / "one", *one) == 0
    assert np.array_equal(read_all(tmp_path / "one" / "latents"), latents[2:])
    assert step(repository, "smoke", "latents", tmp_path / "two", *sets, 'splits=["other"]') == 2
    assert "splits other" in capsys.readouterr().err
