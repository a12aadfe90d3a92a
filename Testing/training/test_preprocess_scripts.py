"""The preprocessing scripts on data sets in their own layouts; every configuration is read."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_series import phantom, write_rows, write_series
from io_radiographs import picture, write_dicom, write_raster
from stage_scripts import module_of, stage

from xray2ctpa_core import config as configuration
from xray2ctpa_core.io.volumes import read_volume, write_volume

RSPECT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "negative_exam_for_pe")
CONFIGS = Path(__file__).resolve().parents[2] / "Training" / "configs"


def run(repository: Path, script: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "Training" / script), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


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
    return ["--set", "dataset=rspect", f"root={root}", f"table={root / 'train.csv'}", "workers=1"]


def test_rspect_becomes_cases_and_the_bad_examination_is_logged(
    repository: Path, rspect: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    smoke = ["--config", str(CONFIGS / "smoke-ctpa.json")]
    assert stage(repository, "preprocess_ctpa.py", tmp_path / "strict", *smoke, *of(rspect)) == 2
    assert "train.csv, row 19" in capsys.readouterr().err

    done = run(repository, "preprocess_ctpa.py", out, *smoke, *of(rspect), "check_files=false", "workers=2")

    assert done.returncode == 0, done.stderr
    assert "2 of 3 cases are complete" in done.stdout
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
    assert stage(repository, "preprocess_ctpa.py", out, "--resume", *smoke, *of(rspect)) == 0
    assert "3 of 3 cases are complete, 2 of them from before." in capsys.readouterr().out
    assert (out / "cases" / "1.0" / "case.json").stat().st_mtime_ns == before

    assert stage(repository, "preprocess_ctpa.py", out, *smoke, *of(rspect), "margin_mm=20") == 2
    assert "they differ in margin_mm" in capsys.readouterr().err


def test_a_run_in_which_everything_fails_says_so(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = phantom().array
    array[0] = np.nan
    (tmp_path / "data").mkdir()
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), tmp_path / "data" / "nan.nii.gz")
    where = ["--set", f"root={tmp_path / 'data'}", "workers=1"]

    done = stage(repository, "preprocess_ctpa.py", tmp_path / "out", *where)

    assert done == 2
    said = capsys.readouterr().err
    assert "all 1 failed" in said
    assert "1024 NaN or infinite of 12288 in nan.nii.gz" in said


def test_films_become_the_papers_input_and_this_projects(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_dicom(data / "one.dcm")
    write_raster(data / "two.png", (picture() * 255).astype(np.uint8))
    rows = [("one", 0), ("two", 1)]
    table = write_rows(data / "films.csv", ("radiograph", "label"), rows)
    where = ["--set", f"root={data}", f"table={table}", "workers=1"]

    papers = stage(
        repository,
        "preprocess_cxr.py",
        tmp_path / "film",
        "--config",
        str(CONFIGS / "paper-cxr.json"),
        *where,
    )
    assert papers == 0
    image = np.load(tmp_path / "film" / "cases" / "one" / "cxr.npy")
    assert image.shape == (224, 224)
    assert image.max() == pytest.approx((1 - 0.633) / 0.181, abs=1e-3)
    assert image[:, :22] == pytest.approx((0 - 0.633) / 0.181)  # 128 of 160 columns: bars of 22 pixels

    frame = stage(
        repository, "preprocess_cxr.py", tmp_path / "frame", *where, "input=frame", "pixels=96", "force=true"
    )
    assert frame == 0
    image = np.load(tmp_path / "frame" / "cases" / "two" / "cxr.npy")
    assert image.shape == (96, 96)
    assert 0 <= image.min() < image.max() <= 1
    record = json.loads((tmp_path / "frame" / "cases" / "two" / "case.json").read_text())
    assert 0 <= record["gate"]["is_frontal_cxr"] <= 1

    mixed = stage(repository, "preprocess_cxr.py", tmp_path / "mixed", *where, "input=frame", "mean=0.5")
    assert mixed == 2
    assert "settings of input=frame, got mean of film" in capsys.readouterr().err


def test_computed_films_of_a_folder_are_read_as_films(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffdrr", reason="DiffDRR comes with the training extra")
    data = tmp_path / "data"
    data.mkdir()
    write_volume(phantom(), data / "scan.nii.gz", np.int16)
    smoke = ["--config", str(CONFIGS / "smoke-drr.json")]
    drr = stage(repository, "make_drr.py", tmp_path / "drr", *smoke, "--set", f"root={data}", "workers=1")
    assert drr == 0

    films = ["--set", f"root={tmp_path / 'drr'}", f"table={tmp_path / 'drr' / 'films.csv'}", "workers=1"]
    done = stage(
        repository, "preprocess_cxr.py", tmp_path / "cxr", "--config", str(CONFIGS / "smoke-cxr.json"), *films
    )
    assert done == 0
    image = np.load(tmp_path / "cxr" / "cases" / "scan" / "cxr.npy")
    # Lungs are darker than what lies between them.
    assert image[32, 20] < image[32, 32]
    assert image[32, 44] < image[32, 32]


@pytest.mark.parametrize(
    ("script", "kind"),
    [("preprocess_ctpa.py", "ctpa"), ("preprocess_cxr.py", "cxr"), ("make_drr.py", "drr")],
)
def test_every_configuration_is_one_that_its_script_reads(script: str, kind: str, repository: Path) -> None:
    module = module_of(repository, script)
    found = sorted(CONFIGS.glob(f"*-{kind}.json"))

    assert {path.name for path in found} >= {f"paper-{kind}.json", f"smoke-{kind}.json"}
    for path in found:
        configuration.load(module.Config, path)


def test_the_papers_and_the_releases_windows_are_what_they_published(repository: Path) -> None:
    config = module_of(repository, "preprocess_ctpa.py").Config
    windows = {
        name: configuration.load(config, CONFIGS / f"{name}-ctpa.json").window
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
    smoke = ["--config", str(CONFIGS / "smoke-ctpa.json")]
    where = ["--set", f"root={data}", f"table={table}", "workers=1"]
    done = stage(repository, "preprocess_ctpa.py", tmp_path / "ctpa", *smoke, *where)
    assert done == 0
    AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32,), norm_num_groups=8
    ).save_pretrained(tmp_path / "vae")

    sets = ["layout=preprocessed", f"cohort={tmp_path / 'ctpa'}", f"autoencoder={tmp_path / 'vae'}"]
    refused = stage(repository, "encode_latents.py", tmp_path / "latents", "--set", *sets)
    assert refused == 2
    assert "hu_window=[-100,900]" in capsys.readouterr().err
    done = stage(
        repository, "encode_latents.py", tmp_path / "latents", "--set", *sets, "hu_window=[-100,900]"
    )
    assert done == 0

    assert np.load(tmp_path / "latents" / "latents.npy").shape == (4, 4, 8, 32, 32)
    index = json.loads((tmp_path / "latents" / "index.json").read_text())
    assert [(entry["id"], entry["label"], entry["split"]) for entry in index] == [
        ("s0", "0", "train"),
        ("s0", "0", "train"),
        ("s1", "1", "test"),
        ("s1", "1", "test"),
    ]

    sets += ["hu_window=[-100,900]"]
    one = tmp_path / "one"
    assert stage(repository, "encode_latents.py", one, "--set", *sets, 'splits=["test"]') == 0
    assert np.array_equal(np.load(one / "latents.npy"), np.load(tmp_path / "latents" / "latents.npy")[2:])
    assert stage(repository, "encode_latents.py", one, "--set", *sets, 'splits=["other"]') == 2
    assert "splits other" in capsys.readouterr().err
