"""`xray2ctpa check`: the verdict, then how the greys and the size were found, in one line each."""

import json
import os
from pathlib import Path

import io_radiographs as radiographs
import matplotlib
import numpy as np
import pytest
from cli_runs import xray2ctpa
from PIL import Image, ImageDraw, ImageFont, ImageOps

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.generation.samples import SAMPLE_CXR

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check")


def eight_bits() -> np.ndarray:
    """(H, W) uint16 0..255: the radiograph that ships with the package."""
    pixels = np.asarray(Image.open(SAMPLE_CXR))
    return (pixels.astype(np.float32) * (255 / pixels.max())).astype(np.uint16)


def test_a_picture_of_unknown_size_says_that_it_takes_the_mean(place: Path) -> None:
    Image.fromarray(eight_bits().astype(np.uint8)).save(place / "chest.png")

    run = xray2ctpa("check", "chest.png", cwd=place)

    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert lines[0].startswith("chest.png: accepted")
    assert lines[1] == "Greys: 8-bit PNG"
    assert lines[2].startswith("Size: Its size is not known; the frame was taken to be ")
    assert lines[2].endswith("the mean of the cohort.")
    assert lines[3].startswith("Side marker: none was read with certainty")


@pytest.mark.parametrize(
    ("elements", "size"),
    [
        ({}, "at the detector, with the customary magnification: the frame is"),
        ({"EstimatedRadiographicMagnificationFactor": "1.2"}, "magnification 1.2 by EstimatedRadiographic"),
        ({"PixelSpacing": [0.13, 0.13]}, "PixelSpacing of 0.13 mm calibrated in the patient"),
    ],
)
def test_a_dicom_says_how_greys_and_size_were_found(elements: dict, size: str, place: Path) -> None:
    stored = eight_bits() * 16
    spacing = 360 / max(stored.shape)
    elements = {k: [spacing / 1.1] * 2 if k == "PixelSpacing" else v for k, v in elements.items()}
    path = radiographs.write_dicom(
        place / "f.dcm",
        4095 - stored,
        ImagerPixelSpacing=[round(spacing, 4)] * 2,
        RescaleSlope="-1",
        RescaleIntercept="4095",
        WindowCenter="2048",
        WindowWidth="4096",
        **{k: [round(v[0], 4)] * 2 if isinstance(v, list) else v for k, v in elements.items()},
    )

    lines = xray2ctpa("check", path, cwd=place).stdout.splitlines()

    assert lines[1] == "Greys: 12-bit MONOCHROME2, rescaled by -1 and 4095, window 2048/4096"
    assert size.replace("0.13", f"{spacing / 1.1:.4g}") in lines[2]
    verdict = json.loads(xray2ctpa("check", path, "--json", cwd=place).stdout)
    assert verdict["size"] == lines[2].removeprefix("Size: ")
    assert verdict["input"]["greys"] == lines[1].removeprefix("Greys: ")


def test_a_child_by_the_header_is_said_in_both_forms(place: Path) -> None:
    path = radiographs.write_dicom(place / "child.dcm", eight_bits() * 16, PatientAge="006M")
    words = "The patient is a child (under 1 year by the header)"

    lines = xray2ctpa("check", path, cwd=place).stdout.splitlines()
    verdict = json.loads(xray2ctpa("check", path, "--json", cwd=place).stdout)

    assert any(line.startswith(words) for line in lines)
    assert verdict["input"]["notes"][0].startswith(words)  # what panel and page show


def as_nifti(path: Path, grey: np.ndarray) -> Path:
    """One axial slice as ITK lays a radiograph: columns to the left, rows to posterior."""
    spacing = 360 / max(grey.shape)
    return radiographs.write_nifti(
        path, grey.T[:, :, None].astype(np.int16), np.diag([-spacing, -spacing, 1, 1])
    )


def as_itk(path: Path, grey: np.ndarray) -> Path:
    spacing = 360 / max(grey.shape)
    return radiographs.write_itk(path, grey, (1, 0, 0, 1), (spacing, spacing))


def without_preamble(path: Path, grey: np.ndarray) -> Path:
    written = radiographs.write_dicom(path, grey * 16)
    path.write_bytes(written.read_bytes()[132:])
    return path


def as_folder(path: Path, grey: np.ndarray) -> Path:
    path.mkdir()
    radiographs.write_dicom(path / "pa", grey * 16, ViewPosition="PA")
    radiographs.write_dicom(path / "ll", grey * 16, ViewPosition="LL")
    return path


KINDS = {
    "f.png": (lambda path, grey: radiographs.write_raster(path, grey.astype(np.uint8)), "8-bit PNG"),
    "wide.png": (lambda path, grey: radiographs.write_raster(path, grey * 256), "16-bit PNG"),
    "f.jpg": (lambda path, grey: radiographs.write_raster(path, grey.astype(np.uint8)), "8-bit JPEG"),
    "f.tif": (lambda path, grey: radiographs.write_raster(path, grey * 256), "16-bit uint16 TIFF"),
    "f.dcm": (lambda path, grey: radiographs.write_dicom(path, grey * 16), "12-bit MONOCHROME2"),
    "F0001": (without_preamble, "12-bit MONOCHROME2"),
    "folder": (as_folder, "12-bit MONOCHROME2"),
    "f.nii.gz": (as_nifti, "int16 NIfTI"),
    "f.hdr": (as_nifti, "int16 NIfTI"),
    "f.nrrd": (as_itk, "uint16 NRRD"),
    "f.nhdr": (as_itk, "uint16 NRRD"),
    "f.mha": (as_itk, "uint16 MetaImage"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_says_greys_size_and_marker_in_one_line_each(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, greys = KINDS[name]

    code = main(["check", str(write(tmp_path / name, eight_bits()))])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[1] == f"Greys: {greys}"
    assert lines[2].startswith("Size: ")
    assert ("mm wide in the patient" in lines[2]) == name.startswith(("f.n", "f.h", "f.m"))
    assert lines[3].startswith("Side marker: ")
    assert not any(line.startswith(("Greys", "Size", "Side marker")) for line in lines[4:])


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_a_line_break_and_a_tab_in_a_name_break_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a\nGreys: \tb.png"
    Image.fromarray(eight_bits().astype(np.uint8)).save(path)

    checked, scored = main(["check", str(path)]), main(["score", str(path)])
    lines = capsys.readouterr().out.splitlines()

    assert (checked, scored) == (0, 0)
    assert lines[0].startswith(r"a\nGreys: \tb.png: accepted")
    assert lines[1] == "Greys: 8-bit PNG"
    assert lines[-1].split("\t")[4:] == [str(tmp_path / r"a\nGreys: \tb.png")]


def test_a_mirrored_radiograph_is_told_by_its_marker_and_its_heart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An L beside the left shoulder; then the whole radiograph is mirrored."""
    side = 1024
    image = Image.fromarray(eight_bits().astype(np.uint8)).resize((side, side))
    font = ImageFont.truetype(str(FONTS / "DejaVuSans-Bold.ttf"), 48)
    ImageDraw.Draw(image).text((930, 70), "L", fill=255, font=font)
    image.save(tmp_path / "right.png")
    ImageOps.mirror(image).save(tmp_path / "mirrored.png")

    codes = [main(["check", str(tmp_path / name)]) for name in ("right.png", "mirrored.png")]
    out = capsys.readouterr().out

    assert codes == [0, 0]
    right, mirrored = out.split("mirrored.png: ")
    assert "Side marker: L on the image's right, as expected\n" in right
    assert "heart" not in right
    assert (
        "Side marker: L on the image's left, where the patient's right is expected, written backwards\n"
        in mirrored
    )
    assert "the radiograph is mirrored. Nothing was turned; compare left and right." in mirrored
