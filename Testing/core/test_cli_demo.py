"""`xray2ctpa demo`: what it says about the patient it knows, and about any other radiograph."""

import json
import re
from pathlib import Path

import io_radiographs as radiographs
import numpy as np
import pytest
from PIL import Image

from xray2ctpa_core.cli import demo
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.generation import samples as shipped
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

GRID = (32, 64, 64)


@pytest.fixture
def known_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sample patient on the tiny bundle's grid in place of the packaged one; an empty current folder."""
    samples = tmp_path / "samples"
    samples.mkdir()
    Image.fromarray(radiographs.quantised(8)).save(samples / "cxr.png")
    truth = np.random.default_rng(0).normal(0, 300, GRID)
    write_volume(Volume(truth, axial_affine(GRID, (300, 240, 300))), samples / "ctpa.nii.gz", np.int16)
    frame = {"top": 0.0, "left": 0.0, "side": 64.0}
    (samples / "facts.json").write_text(json.dumps({"pe": True, "frame": frame}))
    monkeypatch.setattr(demo, "SAMPLE_CXR", samples / "cxr.png")
    monkeypatch.setattr(demo, "SAMPLE_CTPA", samples / "ctpa.nii.gz")
    monkeypatch.setattr(shipped, "SAMPLE_FACTS", samples / "facts.json")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return samples


def test_the_demonstration_compares_the_volume_with_the_patients_own(
    known_patient: Path, pipeline_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--bundle", str(pipeline_bundle), "--force"]) == 0
    said = capfd.readouterr().out
    volume = Path(re.search(r"Volume: +(\S+)", said)[1])  # type: ignore[index]
    assert volume.is_file()
    assert volume.parent.parent.name == "demo-result"
    assert re.search(r"PSNR \d+\.\d dB, SSIM -?0\.\d\d with this virtual patient's true CTPA", said)
    assert "This virtual patient has PE." in said
    assert "preview.png" in said
    assert "3D Slicer" in said
    assert f"xray2ctpa view {volume.parent}" in said
    assert "never a diagnosis" in said

    assert main(["demo", "--bundle", str(pipeline_bundle), "--force"]) == 0
    assert "Already complete" in capfd.readouterr().out


def test_another_radiograph_has_no_truth_to_compare_with(
    known_patient: Path, pipeline_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    radiograph = radiographs.write_dicom(known_patient / "other.dcm")
    assert (
        main(["demo", "--cxr", str(radiograph), "--out", "mine", "--bundle", str(pipeline_bundle), "--force"])
        == 0
    )
    said = capfd.readouterr().out
    assert str(Path("mine").absolute() / "ctpa.nii.gz") in said
    assert "PSNR" not in said
    assert "virtual patient" not in said


def test_every_radiograph_and_bundle_has_a_folder_of_its_own() -> None:
    folders = {demo.default_target(Path(p), b) for p in ("a/1.png", "b/1.png") for b in ("f0", "f1")}
    assert len(folders) == 4
    assert {f.name[:2] for f in folders} == {"1-"}
