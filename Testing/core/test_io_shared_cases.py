"""The cases gathered from users' reports (../shared/cases): each file reads as its README says is right."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import HeaderCorrection, read_ct
from xray2ctpa_core.io.radiograph import read_radiograph

#: File -> columns at the left edge that are not compared.
SAME_GREYS = {
    "voi-lut-8-bit-entries.dcm": 0,
    "voi-lut-8-bit-packed.dcm": 0,
    "high-bit-15-stored-12.dcm": 0,
    "NOPREAMBLE": 0,
    "folder-without-preamble": 0,
    "functional-groups-slope-minus-1.dcm": 0,
    "functional-groups-window.dcm": 6,
    "jpeg-ls-near-lossless-overshoot.dcm": 0,
    "pixel-spacing-calibrated.dcm": 0,
    "source-distances.dcm": 0,
    "rescale-slope-0.dcm": 0,
    "uint32.tif": 0,
    "rgb-12-in-16-tiled.tif": 0,
    "rgb-12-in-16-planar.tif": 0,
    "thumbnail-page.tif": 0,
}


@pytest.fixture(scope="module")
def cases(repository: Path) -> Path:
    folder = repository.parent / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("no cases at ../shared/cases")
    return folder


@pytest.mark.parametrize("name", SAME_GREYS)
def test_a_case_reads_as_the_expected_picture(
    name: str, cases: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = np.asarray(Image.open(cases / "expected.png"), np.float64)
    left_out = SAME_GREYS[name]

    radiograph = read_radiograph(cases / name)

    read, wanted = radiograph.pixels[:, left_out:], expected[:, left_out:]
    assert np.corrcoef(read.ravel(), wanted.ravel())[0, 1] > 0.995
    assert len(radiograph.notes) == (name == "rescale-slope-0.dcm")
    assert capfd.readouterr() == ("", "")


def test_12_bits_in_16_bit_colour_keep_their_greys(cases: Path) -> None:
    for name in ("rgb-12-in-16-tiled.tif", "rgb-12-in-16-planar.tif"):
        assert len(np.unique(read_radiograph(cases / name).pixels)) >= 1000


@pytest.mark.parametrize(
    ("name", "spacing", "magnification"),
    [
        ("functional-groups-slope-minus-1.dcm", 2.2, None),
        ("pixel-spacing-calibrated.dcm", 2.0, 1.0),
        ("source-distances.dcm", 2.2, 1.25),
    ],
)
def test_a_case_has_its_size(name: str, spacing: float, magnification: float | None, cases: Path) -> None:
    radiograph = read_radiograph(cases / name)

    assert radiograph.spacing_mm == (spacing, spacing)
    assert radiograph.magnification == magnification


def test_the_frontal_one_of_two_files_without_preamble_is_taken(cases: Path) -> None:
    assert read_radiograph(cases / "folder-without-preamble").view == "PA"


def test_the_data_file_that_was_not_copied_is_named(cases: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.raw, which is missing"):
        read_radiograph(cases / "data-file-missing.nhdr")


@pytest.mark.parametrize("unit", ["mm", "micron", "metre"])
def test_a_ct_in_any_unit_has_its_size_in_mm(unit: str, cases: Path) -> None:
    spacing = read_ct(cases / f"ct-in-{unit}.nii.gz").volume.spacing

    assert spacing == pytest.approx((8.0, 8.0, 12.0), rel=1e-5)


def test_a_table_that_scales_hu_once_more_is_refused(cases: Path) -> None:
    scan = cases / "ct-rate-scaled-twice" / "train_1" / "train_1_a" / "train_1_a_1.nii.gz"

    assert read_ct(scan).volume.array.min() == -1000
    with pytest.raises(InputError, match="scale by 1 and -8192, got Hounsfield units already"):
        read_ct(scan, HeaderCorrection(1.0, -8192.0))
