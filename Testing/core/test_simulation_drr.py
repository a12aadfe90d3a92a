"""Computed radiographs: seen from the right side, in true size, whole, and in the unit of attenuation."""

from pathlib import Path

import numpy as np
import pytest

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.volume import Volume, axial_affine

pytest.importorskip("diffdrr", reason="DiffDRR comes with the training extra")

from xray2ctpa_core.data.drr_cases import DRR_FILE, write_drr
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.simulation.drr import DrrSettings, fitting_pixel_mm, render_drr


def ball(x: float, y: float, z: float, radius: float = 12.0) -> Volume:
    """Air of 200 x 160 x 240 mm (z, y, x) at 4 mm with a ball of bone at (x, y, z) from the middle, which
    lies at LPS (50, -30, 400); all in mm."""
    shape, extent = (50, 40, 60), (200.0, 160.0, 240.0)
    affine = axial_affine(shape, extent, (50.0, -30.0, 400.0))
    k, j, i = np.indices(shape)
    at = [(n - (size - 1) / 2) * 4.0 for n, size in zip((i, j, k), shape[::-1], strict=True)]
    inside = sum((a - b) ** 2 for a, b in zip(at, (x, y, z), strict=True)) <= radius**2
    return Volume(np.where(inside, 1000.0, -1000.0).astype(np.float32), affine)


def centre(image: np.ndarray) -> tuple[float, float]:
    """(row, column) of the middle of what is bright, from the image's middle, in pixels."""
    row, column = np.argwhere(image > image.max() / 2).mean(axis=0)
    return row - (image.shape[0] - 1) / 2, column - (image.shape[1] - 1) / 2


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_superior_is_above_and_the_patients_left_on_the_right(view: str) -> None:
    settings = DrrSettings(pixels=64, view=view)
    image, pixel_mm = render_drr(ball(60.0, 0.0, 40.0), settings)

    row, column = centre(image)
    # In the middle plane: 1200 / 850 times as large at the detector.
    assert row * pixel_mm == pytest.approx(-40 * 1200 / 850, abs=pixel_mm)
    assert column * pixel_mm == pytest.approx(60 * 1200 / 850, abs=pixel_mm)


@pytest.mark.parametrize(("view", "distance"), [("PA", 850 - 60), ("AP", 850 + 60)])
def test_what_is_nearer_to_the_source_is_larger(view: str, distance: float) -> None:
    """A ball 60 mm posterior of the middle: nearer to a PA radiograph's source."""
    settings = DrrSettings(pixels=96, view=view)
    image, pixel_mm = render_drr(ball(60.0, 60.0, 0.0), settings)

    assert centre(image)[1] * pixel_mm == pytest.approx(60 * 1200 / distance, abs=pixel_mm)


def test_the_same_scan_in_another_orientation_gives_the_same_radiograph() -> None:
    scan = ball(60.0, 0.0, 40.0)
    flips = scan.affine @ np.array([[-1, 0, 0, 59], [0, -1, 0, 39], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    turned = Volume(np.ascontiguousarray(scan.array[:, ::-1, ::-1]), flips)
    settings = DrrSettings(pixels=48)

    assert np.allclose(render_drr(scan, settings)[0], render_drr(turned, settings)[0], atol=1e-4)


def test_the_detector_is_as_large_as_the_whole_scan_needs() -> None:
    scan = ball(0.0, 0.0, 0.0)
    # The front plane, 80 mm before the middle, 240 mm wide, magnified 1200 / (850 - 80).
    assert fitting_pixel_mm(scan, DrrSettings(pixels=64)) == pytest.approx(240 * 1200 / 770 / 64)
    assert render_drr(scan, DrrSettings(pixels=32, pixel_mm=2.5))[1] == 2.5


def test_a_slab_of_water_attenuates_by_its_thickness() -> None:
    shape = (40, 40, 40)
    water = np.full(shape, -1000.0, np.float32)
    water[:, 10:30] = 0.0
    volume = Volume(water, axial_affine(shape, (200.0, 200.0, 200.0)))

    image, _ = render_drr(volume, DrrSettings(pixels=32))

    # 100 mm of 0.0193 per mm, straight through the middle.
    assert image[15:17, 15:17] == pytest.approx(1.93, rel=0.03)


def test_the_file_is_a_radiograph_of_true_size(tmp_path: Path) -> None:
    scan = ball(60.0, 0.0, 40.0, 40.0)  # as wide as a person's body may be
    soft = scan.with_array(np.where(scan.array > 0, 200.0, scan.array))  # a ball of metal is no CT in HU
    write_volume(soft, tmp_path / "scan.nii.gz", np.int16)
    folder = tmp_path / "case"
    folder.mkdir()

    record = write_drr(DrrSettings(pixels=80), Study("s", "p", tmp_path / "scan.nii.gz"), folder)
    radiograph = read_radiograph(folder / DRR_FILE)

    assert radiograph.pixels.shape == (80, 80)
    assert radiograph.spacing_mm == pytest.approx((record["pixel_mm"],) * 2, rel=1e-4)
    row, column = centre(radiograph.pixels)
    assert row < 0 < column
    assert record["source"]["spacing_mm"] == pytest.approx([4.0, 4.0, 4.0])


def test_impossible_geometry_is_refused() -> None:
    with pytest.raises(ConfigError, match="source_to_centre_mm < source_to_detector_mm"):
        DrrSettings(source_to_detector_mm=800.0)
    with pytest.raises(ConfigError, match="view out of PA, AP"):
        DrrSettings(view="LL")
    with pytest.raises(InputError, match="reaches 80 mm away from its middle"):
        fitting_pixel_mm(ball(0, 0, 0), DrrSettings(source_to_detector_mm=900.0))
