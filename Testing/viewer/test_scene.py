"""Slicer's own views, off screen: they show the volume, upright, left where left is, and say SYNTHETIC."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from cli_runs import ENVIRONMENT
from ct_series import phantom, write_series
from PIL import Image
from scenes import EXTENT_MM, HOT_KJI, HOT_RAS, SHAPE, add_second_opinion, write_result

pytest.importorskip("trame_slicer")

import slicer
import vtk

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.mrml.record import read_record
from xray2ctpa_core.viewer import case
from xray2ctpa_core.viewer.display import RENDERINGS, Display, changed
from xray2ctpa_core.viewer.scene import COMPARE_VIEWS, RENDERING, RESULT_VIEWS, ResultScene
from xray2ctpa_core.viewer.titles import described
from xray2ctpa_core.volume import Volume, axial_affine

SIDE = 300
#: Where a view is free of letters: SYNTHETIC stands below.
INNER = slice(30, SIDE - 30)


def radiograph_with_a_marker() -> case.ShownRadiograph:
    """Grey, with a white square superior on the patient's left, which a viewer sees on the right."""
    pixels = np.full((100, 100), 0.2, np.float32)
    pixels[15:35, 65:85] = 1.0
    return case.ShownRadiograph(pixels, "radiograph.png", 3.0, (49.5, 49.5))


@pytest.fixture
def scene(small_result):
    made = ResultScene(small_result, radiograph_with_a_marker())
    for name in RESULT_VIEWS:
        made.resize(name, SIDE, SIDE)
    yield made
    made.close()


def drawn(scene, name) -> np.ndarray:
    return scene.draw(name).astype(int)


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """(row, column) of the middle of what is True, as parts of the height and width."""
    rows, columns = np.nonzero(mask)
    assert rows.size > 0, "nothing is seen"
    return rows.mean() / mask.shape[0], columns.mean() / mask.shape[1]


def coloured(picture: np.ndarray) -> np.ndarray:
    """Where a picture is neither grey nor, at its edges, a letter."""
    mask = np.ptp(picture, axis=2) > 60
    frame = np.zeros_like(mask)
    frame[INNER, INNER] = True
    return mask & frame


def test_all_views_are_drawn_at_their_size(scene):
    for name in RESULT_VIEWS:
        assert drawn(scene, name).shape[2] == 3
    assert drawn(scene, "Red").shape == (SIDE, SIDE, 3)


def test_a_view_larger_than_is_drawn_keeps_its_proportions(scene):
    scene.resize("Red", 2800, 700)
    assert drawn(scene, "Red").shape[:2] == (350, 1400)
    scene.resize("Green", 1600, 1200)  # by hand: 500 000 pixels of 4 : 3 are 816 x 612
    assert drawn(scene, "Green").shape[:2] == (612, 816)
    scene.resize("3D", 1400, 1000)
    assert drawn(scene, "3D").shape[:2] == (1000, 1400)
    scene.resize("Yellow", 10, 1)
    assert drawn(scene, "Yellow").shape[:2] == (48, 48)


def test_the_planes_meet_in_the_hot_voxel_and_show_it_where_it_lies(scene):
    assert scene.position == pytest.approx(HOT_RAS, abs=1e-3)
    expected = {
        "Red": ("<", ">"),
        "Green": ("<", ">"),
        "Yellow": ("<", "<"),
    }  # row, column against the middle
    for name, (above, beside) in expected.items():
        row, column = middle_of(coloured(drawn(scene, name)))
        assert (row < 0.5) == (above == "<"), f"{name}: anterior or superior is on top"
        assert (column < 0.5) == (beside == "<"), (
            f"{name}: the patient's left, or anterior, is where it belongs"
        )


def test_the_heat_lies_where_the_crosshair_is(scene):
    for name in mrml.PLANE_VIEWS:
        row, column = middle_of(coloured(drawn(scene, name)))
        across, down = scene.crosshair(name)
        assert (across, down) == pytest.approx((column, row), abs=0.02)


@pytest.mark.parametrize("own_file", [True, False], ids=["its file", "the preview's picture"])
def test_the_map_of_a_second_opinion_lies_on_the_radiograph_when_it_is_asked_for(small_result, own_file):
    """The radiograph is 120 x 90; the map is hot at rows 60 to 80 and columns 10 to 20 of it."""
    upright = np.full((120, 90), 0.2, np.float32)
    upright[10:30, 55:75] = 1.0
    add_second_opinion(small_result, upright, (slice(60, 80), slice(10, 20)))
    picture = case.ShownRadiograph(upright, "radiograph.png", 3.0, (59.5, 44.5))
    shown = picture if own_file else case.radiograph_of(read_record(small_result), small_result)
    made = ResultScene(small_result, shown)
    try:
        made.resize(mrml.RADIOGRAPH_VIEW, SIDE, SIDE)
        before = drawn(made, mrml.RADIOGRAPH_VIEW)
        wished = changed(made.display, {"overlay": "radiograph_gradcam", "opacity": 1.0})
        assert mrml.RADIOGRAPH_VIEW in made.show(wished)
        difference = np.abs(drawn(made, mrml.RADIOGRAPH_VIEW) - before).max(axis=2) > 60
        rows, columns = np.nonzero(difference)
        pixel = SIDE / 120  # the view is filled from top to bottom
        assert (rows.min() / pixel, rows.max() / pixel) == pytest.approx((60, 80), abs=2.5)
        assert (columns.min() / pixel - 15, columns.max() / pixel - 15) == pytest.approx((10, 20), abs=2.5)
        assert [bar["title"] for bar in made.bars()] == ["Grad-CAM"]
        made.show(changed(made.display, {"overlay": ""}))
        assert np.abs(drawn(made, mrml.RADIOGRAPH_VIEW) - before).max() < 5
    finally:
        made.close()


def test_the_overlay_fades_and_its_threshold_hides_it(scene):
    in_full = middle_colour(scene, opacity=1.0)
    faint = middle_colour(scene, opacity=0.3)
    assert in_full > faint + 30
    assert middle_colour(scene, opacity=0.0) < 10
    assert middle_colour(scene, opacity=1.0, threshold=0.95) < 10, "the hot voxel is 0.9"


def middle_colour(scene, **wishes) -> int:
    """How coloured the hot voxel is in the axial plane."""
    scene.show(changed(scene.display, wishes))
    return int(np.ptp(at_crosshair(scene, "Red")))


def at_crosshair(scene, name) -> np.ndarray:
    """RGB of the pixel of a view in which the planes meet."""
    across, down = scene.crosshair(name)
    return drawn(scene, name)[int(down * SIDE), int(across * SIDE)]


def test_the_radiograph_is_upright_with_the_patients_right_on_the_left(scene):
    picture = drawn(scene, mrml.RADIOGRAPH_VIEW)
    row, column = middle_of((picture.min(axis=2) > 230) & inner())
    assert (row, column) == pytest.approx((0.25, 0.75), abs=0.02)


def inner() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[INNER, INNER] = True
    return mask


def test_the_crosshair_stands_on_the_radiograph_in_front_of_the_place(scene):
    across, down = scene.crosshair(mrml.RADIOGRAPH_VIEW)
    # By hand: the radiograph is 300 mm wide and shown in full; 65 mm to the left, 45 mm up of its middle.
    assert (across, down) == pytest.approx((0.5 + 65 / 300, 0.5 - 45 / 300), abs=0.01)


def test_pointing_moves_all_planes_and_the_radiograph_keeps_the_depth(scene):
    scene.point("Red", *scene.crosshair("Red"))
    assert scene.position == pytest.approx(HOT_RAS, abs=1.0)
    scene.point(mrml.RADIOGRAPH_VIEW, 0.5, 0.5)
    assert scene.position == pytest.approx((0.0, HOT_RAS[1], 0.0), abs=1.0)
    assert scene.point(RENDERING, 0.5, 0.5) == set()


def test_scrolling_goes_by_voxels_and_stops_at_the_edge(scene):
    scene.scroll("Red", -1)
    assert scene.position == pytest.approx((HOT_RAS[0], HOT_RAS[1], HOT_RAS[2] - 10.0), abs=1e-3)
    scene.scroll("Yellow", 1)
    assert scene.position[0] == pytest.approx(HOT_RAS[0] - 10.0, abs=1e-3), "towards the patient's left"
    scene.scroll("Green", 1000)
    assert scene.position[1] == pytest.approx(EXTENT_MM[1] / 2 - 5.0, abs=1e-3), "centre of the first voxel"
    assert coloured(drawn(scene, "Red")).sum() == 0, "the hot voxel lies in another plane"


def test_only_planes_whose_slice_has_changed_are_out_of_date(scene):
    assert scene.scroll("Red", -1) == {"Red"}
    across, down = scene.crosshair("Red")
    assert scene.point("Red", across + 0.1, down) == {"Yellow"}
    assert scene.go_to(scene.position) == set()


def test_slices_are_counted_as_they_are_scrolled(scene):
    k, j, i = HOT_KJI
    depth, height, width = SHAPE
    # Superior, anterior and left count upwards; j runs to posterior, i to the left.
    assert scene.slice_of("Red") == (k + 1, depth)
    assert scene.slice_of("Green") == (height - j, height)
    assert scene.slice_of("Yellow") == (i + 1, width)
    scene.scroll("Yellow", 1)
    assert scene.slice_of("Yellow") == (i + 2, width)
    scene.go_to_slice("Red", 1)
    assert scene.slice_of("Red") == (1, depth)


def test_zooming_keeps_what_is_under_the_pointer_and_links_views_of_a_plane(small_result):
    scene = ResultScene(small_result, None, np.full(SHAPE, AIR_HU, np.float32))
    scene.show(changed(scene.display, {"mode": "compare"}))
    for name in scene.shown():
        scene.resize(name, SIDE, SIDE)
    before = scene.place_at("Red", 0.2, 0.7)
    assert scene.zoom("Red", 2.0, 0.2, 0.7) == {"Red", "RedTruth", "RedDifference"}
    assert scene.place_at("Red", 0.2, 0.7) == pytest.approx(before, abs=1e-3)
    assert scene.extent("Red") == pytest.approx(scene.extent("RedDifference"))
    assert scene.extent("Red")[2] == pytest.approx(EXTENT_MM[1] / 2), "half of the 240 mm that were in view"
    scene.pan("RedTruth", 0.25, 0.0)
    moved = scene.place_at("Red", 0.45, 0.7)
    assert moved == pytest.approx(before, abs=1e-3), "the content followed the pointer"
    scene.resize("Red", SIDE, SIDE)
    assert scene.place_at("Red", 0.45, 0.7) == pytest.approx(before, abs=1e-3)
    scene.reset()
    assert scene.extent("Red")[2] == pytest.approx(EXTENT_MM[1])
    scene.close()


def test_the_values_under_the_cursor_are_those_of_the_voxel(scene):
    values = scene.values_at("Red", *scene.crosshair("Red"))
    assert values["hu"] == pytest.approx(700.0), "scenes.write_result makes one voxel of 700 HU"
    assert values["gradcam"] == pytest.approx(0.9, abs=0.01)
    assert scene.values_at("Red", 0.02, 0.5) == {}, "outside the volume"
    assert scene.values_at(RENDERING, 0.5, 0.5) == {}


def test_a_thick_plane_shows_the_greatest_voxel_across_it(scene):
    scene.scroll("Red", -1)  # 10 mm below the bright voxel
    at = scene.crosshair("Red")
    scene.show(changed(scene.display, {"overlay": ""}))
    assert scene.values_at("Red", *at)["hu"] == pytest.approx(AIR_HU)
    assert at_crosshair(scene, "Red").mean() < 10
    scene.show(changed(scene.display, {"slab_mm": 30.0}))
    assert scene.values_at("Red", *at)["hu"] == pytest.approx(700.0)
    assert at_crosshair(scene, "Red").mean() > 150
    scene.show(changed(scene.display, {"slab": "mean"}))
    # Three voxels across: (700 - 1000 - 1000) / 3.
    assert scene.values_at("Red", *at)["hu"] == pytest.approx(-1300 / 3, abs=1)


def test_a_visitors_own_window_is_shown(scene):
    scene.show(changed(scene.display, {"overlay": "", "level": 700.0, "width": 2000.0}))
    # 700 HU in -300..1700: the middle grey; the pixel lies up to a 30th of a voxel from the centre.
    assert at_crosshair(scene, "Red").mean() == pytest.approx(128, abs=25)
    assert scene.display.window == ""
    scene.show(changed(scene.display, {"window": "lung"}))
    assert (scene.display.level, scene.display.width) == mrml.WINDOWS["lung"]


def test_the_colour_bars_name_their_ends(scene):
    [bar] = scene.bars()
    assert (bar["title"], bar["low"], bar["high"]) == ("Grad-CAM", 0.0, 1.0)
    scene.show(changed(scene.display, {"overlay": "spread"}))
    [bar] = scene.bars()
    assert (bar["low"], bar["high"], bar["unit"]) == (0.0, 200.0, "HU")
    scene.show(changed(scene.display, {"overlay": ""}))
    assert scene.bars() == []


def test_views_are_named_with_the_letters_at_their_edges():
    assert described("Yellow")["letters"] == "APSI"
    assert described("RedDifference")["title"] == "Axial, generated - true"
    assert {described(name)["kind"] for name in RESULT_VIEWS} == {"radiograph", "generated"}


def memory_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def open_and_close(folder, times) -> None:
    for _ in range(times):
        scene = ResultScene(folder, radiograph_with_a_marker(), np.full(SHAPE, AIR_HU, np.float32))
        for name in scene.shown():
            scene.draw(name)
        scene.show(changed(scene.display, {"mode": "compare"}))
        for name in scene.shown():
            scene.draw(name)
        scene.close()


def test_opening_results_one_after_another_loses_no_memory(small_result):
    open_and_close(small_result, 8)
    before = memory_mb()
    open_and_close(small_result, 8)
    assert memory_mb() - before < 20, "40 MB each were lost"


@pytest.mark.slow
def test_memory_is_flat_over_a_hundred_results(real_result):
    record = read_record(real_result)
    radiograph, truth = case.radiograph_of(record, real_result, SAMPLE_CXR), case.truth_of(record)
    assert truth is not None
    after = []
    for _ in range(100):
        scene = ResultScene(real_result, radiograph, truth.array)
        for name in scene.shown():
            scene.draw(name)
        scene.show(changed(scene.display, {"mode": "compare"}))
        for name in scene.shown():
            scene.draw(name)
        scene.close()
        after.append(memory_mb())
    assert after[-1] - after[9] < 60, f"{after[::10]} MB"


def test_windows_change_the_greys(scene):
    scene.show(changed(scene.display, {"overlay": ""}))
    bright = {}
    for window in mrml.WINDOWS:
        scene.show(changed(scene.display, {"window": window}))
        bright[window] = drawn(scene, "Red")[INNER, INNER].mean()
    assert bright["lung"] > bright["CTPA"] + 10, "air is grey in the lung window, black in the others"
    assert bright["mediastinum"] < bright["lung"]


def test_every_view_of_what_was_generated_says_so(scene):
    drawn(scene, RENDERING)
    scene.refine()  # the first one is coarse
    for name in (*mrml.PLANE_VIEWS, RENDERING):
        picture = drawn(scene, name)
        corner = picture[int(0.9 * len(picture)) :, picture.shape[1] // 2 :]
        orange = (corner[..., 0] > 180) & (corner[..., 2] < 130)
        assert orange.sum() > 40, f"SYNTHETIC stands in {name}"


def test_the_rendering_casts_fewer_rays_while_it_turns_than_when_it_rests(scene):
    def pixels_a_ray() -> float:
        drawn(scene, RENDERING)
        view = scene._stage.view(RENDERING)
        manager = view.get_displayable_manager_by_class(slicer.vtkMRMLVolumeRenderingDisplayableManager)
        return manager.GetVolumeMapper(scene.nodes.ctpa).GetImageSampleDistance()

    scene.refine()
    scene._full_seconds = 1.6  # of a slow machine
    assert scene.turn(0.1, 0.0) == {RENDERING}
    assert pixels_a_ray() == pytest.approx(4.0)
    scene._full_seconds = 1.6
    assert scene.refine() == {RENDERING}
    assert pixels_a_ray() == pytest.approx(2.0)
    assert scene.refine() == set(), "it rests already"


def test_a_result_without_radiograph_or_spread_is_shown_too(tmp_path):
    scene = ResultScene(write_result(tmp_path / "single", samples=1), None)
    for name in RESULT_VIEWS:
        assert scene.draw(name).size > 0
    scene.show(changed(scene.display, {"overlay": "spread"}))
    scene.close()


def test_two_scenes_live_side_by_side_and_one_outlives_the_other(small_result, tmp_path):
    first = ResultScene(small_result, radiograph_with_a_marker())
    second = ResultScene(write_result(tmp_path / "second"), None)
    first.scroll("Red", -1)
    assert second.position == pytest.approx(HOT_RAS, abs=1e-3)
    first.close()
    second.resize("Red", SIDE, SIDE)
    assert coloured(drawn(second, "Red")).sum() > 0
    second.close()


def test_a_truth_stands_beside_the_generated_volume_with_the_difference(small_result):
    truth = np.full(SHAPE, AIR_HU, np.float32)
    truth[HOT_KJI] = 300.0  # 400 HU below the generated 700
    scene = ResultScene(small_result, None, truth)
    assert RENDERING in scene.shown()
    scene.show(changed(scene.display, {"mode": "compare", "overlay": ""}))
    for name in COMPARE_VIEWS:
        scene.resize(name, SIDE, SIDE)
    assert scene.shown() == COMPARE_VIEWS
    for name in mrml.TRUTH_VIEWS:
        assert scene.crosshair(name) == pytest.approx(scene.crosshair(mrml.TRUTH_VIEWS[name]), abs=1e-6)
    red, _green, blue = at_crosshair(scene, "RedDifference")
    assert red > 200
    assert blue < 60, "more than in truth is red"
    # 300 HU in the window 150 +- 450: (300 + 300) / 900 of white; a pixel is a 15th of a voxel.
    assert at_crosshair(scene, "RedTruth").mean() == pytest.approx(255 * 600 / 900, abs=25)
    scene.show(changed(scene.display, {"slab_mm": 30.0}))
    for steps, is_red in ((-1, True), (-1, False), (1, True)):  # the slab ends beside the bright voxel
        scene.scroll("Red", steps)
        red, _green, blue = at_crosshair(scene, "RedDifference")
        assert (red > 200 and blue < 60) == is_red, "the difference of what the two slabs show"
        assert (at_crosshair(scene, "RedTruth").mean() > 100) == is_red
    scene.close()


def test_a_truth_on_another_grid_is_brought_to_the_results(tmp_path, small_result):
    grid = (32, 48, 40)
    fine = np.full(grid, AIR_HU, np.float32)
    fine[24:26, 8:10, 32:34] = 300.0  # the eight small voxels of the hot one
    write_volume(Volume(fine, axial_affine(grid, EXTENT_MM)), tmp_path / "truth.nii.gz", np.int16)
    record = read_record(small_result)
    truth = case.truth_of(record, tmp_path / "truth.nii.gz").array
    assert truth.shape == SHAPE
    assert np.unravel_index(truth.argmax(), SHAPE) == HOT_KJI
    assert truth[HOT_KJI] == pytest.approx(300.0)
    assert case.truth_of(record) is None


def write_air(path: Path, shape=SHAPE, extent=EXTENT_MM, shift=0.0) -> Path:
    """A true CTPA of air, ``shift`` mm superior of the result."""
    affine = axial_affine(shape, extent)
    affine[2, 3] += shift
    write_volume(Volume(np.full(shape, AIR_HU, np.float32), affine), path, np.int16)
    return path


def test_a_truth_may_be_dicom(tmp_path, small_result):
    record = read_record(small_result)
    write_volume(phantom(), tmp_path / "truth.nii.gz", np.int16)
    write_series(tmp_path / "series", phantom())

    from_nifti, from_dicom = (case.truth_of(record, tmp_path / name) for name in ("truth.nii.gz", "series"))

    assert np.nanmax(from_dicom.array) > 0
    assert np.allclose(from_dicom.array, from_nifti.array, atol=0.1, equal_nan=True)


def test_a_truth_masked_with_0_has_air_around_the_body(tmp_path, small_result):
    record, volume = read_record(small_result), phantom()
    masked = np.where(volume.array == AIR_HU, 0, volume.array)
    write_volume(volume, tmp_path / "air.nii.gz", np.int16)
    write_volume(volume.with_array(masked), tmp_path / "masked.nii.gz", np.int16)

    air, mended = (case.truth_of(record, tmp_path / name) for name in ("air.nii.gz", "masked.nii.gz"))

    assert np.array_equal(air.array, mended.array, equal_nan=True)


def test_a_truth_without_overlap_is_refused_and_a_small_one_is_doubted(tmp_path, small_result):
    record = read_record(small_result)
    far = write_air(tmp_path / "far.nii.gz", shift=1000.0)
    with pytest.raises(InputError, match="wholly outside"):
        case.truth_of(record, far)
    half = write_air(tmp_path / "half.nii.gz", shift=80.0)  # of 160 mm
    assert any("covers only 50 %" in doubt for doubt in case.truth_of(record, half).doubts)


def test_a_comparison_by_assumed_millimetres_says_so(tmp_path, small_result):
    truth = write_air(tmp_path / "truth.nii.gz")
    record = read_record(small_result)
    record["geometry"]["spacing_source"] = "cohort mean"
    assert "millimetres are assumed" in case.truth_of(record, truth).doubts[0]
    record["geometry"]["spacing_source"] = "ImagerPixelSpacing"
    assert case.truth_of(record, truth).doubts == []
    assert not case.are_millimetres_assumed(record)


def test_a_truth_lies_where_its_radiograph_shows_it_if_its_frame_is_known(tmp_path, small_result):
    record = read_record(small_result)
    record["geometry"]["frame_in_film_pixels"] = {"top": 0.0, "left": 20.0, "side": 200.0}
    folder = tmp_path / "patient"
    folder.mkdir()
    (folder / "cxr.png").write_bytes(b"a radiograph")
    record["input"]["sha256"] = case.file_sha256(folder / "cxr.png")
    (folder / "patient.json").write_text(json.dumps({"frame": {"top": 0.0, "left": 0.0, "side": 200.0}}))
    array = np.full(SHAPE, AIR_HU, np.float32)
    array[HOT_KJI] = 300.0
    affine = axial_affine(SHAPE, EXTENT_MM)
    affine[:3, 3] += 1000.0  # patient space does not matter
    write_volume(Volume(array, affine), folder / "ctpa.nii.gz", np.int16)
    truth = case.truth_of(record, folder / "ctpa.nii.gz")
    assert truth.doubts == []
    k, j, i = HOT_KJI
    # By hand: the result's frame lies 20 of 200 pixels, a tenth of 20 voxels, further right in the image.
    assert np.unravel_index(truth.array.argmax(), SHAPE) == (k, j, i - 2)


def test_a_process_that_shows_a_result_never_loads_torch(small_result):
    code = (
        "import sys; from pathlib import Path; import xray2ctpa_core.viewer.server;"
        "from xray2ctpa_core.viewer import case; from xray2ctpa_core.mrml.record import read_record;"
        "from xray2ctpa_core.viewer.scene import ResultScene; folder = Path(sys.argv[1]);"
        f"record = read_record(folder); radiograph = Path({str(SAMPLE_CXR)!r});"
        "record['input']['sha256'] = case.file_sha256(radiograph);"
        "shown = case.radiograph_of(record, folder, radiograph);"
        "scene = ResultScene(folder, shown, case.truth_of(record).array);"
        "scene.draw('Red');"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, small_result],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.stdout.strip() == "False", run.stderr


def test_what_is_shown_is_checked():
    display = changed(Display(), {"window": "lung", "opacity": 1, "overlay": ""})
    assert (display.window, display.opacity, display.overlay) == ("lung", 1, "")
    for wrong in ({"window": "bone"}, {"opacity": 1.5}, {"opacity": True}, {"threshold": "0.5"},
                  {"colour": 1}, {"opacity": float("nan")}, {"mode": ["result"]}):  # fmt: skip
        with pytest.raises(InputError, match="Expected"):
            changed(Display(), wrong)


@pytest.fixture(scope="module")
def real_scene(real_result):
    record = read_record(real_result)
    truth = case.truth_of(record)
    assert truth is not None
    scene = ResultScene(real_result, case.radiograph_of(record, real_result, SAMPLE_CXR), truth.array)
    for name in RESULT_VIEWS:
        scene.resize(name, SIDE, SIDE)
    scene.refine()
    yield scene
    scene.close()


@pytest.mark.slow
def test_a_real_result_shows_a_thorax_in_every_plane(real_scene, pictures):
    scene = real_scene
    scene.show(changed(scene.display, {"overlay": ""}))
    scene.go_to((0.0, 0.0, scene.nodes.ctpa.GetSpacing()[2] / 2))  # the centre of slice D / 2
    voxels = slicer.util.arrayFromVolume(scene.nodes.ctpa)
    for name in mrml.PLANE_VIEWS:
        picture = drawn(scene, name)
        Image.fromarray(picture.astype(np.uint8)).save(pictures / f"view-{name}.png")
        inside = picture[INNER, INNER].mean(axis=2)
        assert (inside < 5).mean() > 0.1, "lung is black in the CTPA window"
        assert (inside > 150).mean() > 0.02, "contrast and bone are bright"
    # The axial view is the middle slice: the same voxels, in the window, as nibabel reads them.
    axial = voxels[len(voxels) // 2].astype(float)
    shown = drawn(scene, "Red")
    greys, expected = [], []
    for j in range(20, 108, 8):
        for i in range(20, 108, 8):
            x, y = place_of(scene, "Red", i, j)
            if 40 < x < SIDE - 40 and 40 < y < SIDE - 40:
                greys.append(shown[y, x].mean())
                expected.append(np.clip((axial[j, i] + 300) / 900, 0, 1) * 255)
    assert len(greys) > 30
    assert np.corrcoef(greys, expected)[0, 1] > 0.97


def place_of(scene, name: str, i: int, j: int) -> tuple[int, int]:
    """Pixel (x, y) of a view at which the voxel (i, j) of the slice through the present place is seen."""
    matrix = vtk.vtkMatrix4x4()
    scene.nodes.ctpa.GetIJKToRASMatrix(matrix)
    former = scene.position
    right, anterior, _ = matrix.MultiplyPoint((i, j, 0, 1))[:3]
    scene.position = (right, anterior, former[2])
    across, down = scene.crosshair(name)
    scene.position = former
    return round(across * SIDE - 0.5), round(down * SIDE - 0.5)


@pytest.mark.slow
def test_a_real_rendering_shows_bones_and_vessels(real_scene, pictures):
    picture = drawn(real_scene, RENDERING)
    Image.fromarray(picture.astype(np.uint8)).save(pictures / "view-3D.png")
    inside = picture[20:-20, 10:-10]
    lit = inside.max(axis=2) > 60
    assert 0.15 < lit.mean() < 0.9, "neither empty nor a solid block"
    white = (inside.min(axis=2) > 110).mean()
    red = ((inside[..., 0] - inside[..., 2] > 70) & (inside[..., 0] > 130)).mean()
    assert white > 0.005, "bone and dense contrast are nearly white"
    assert red > 0.05, "vessels are red"
    former = picture
    real_scene.turn(0.25, 0.0)
    real_scene.refine()
    turned = drawn(real_scene, RENDERING)
    assert np.abs(turned - former).mean() > 5, "it turns"
    real_scene.reset()


@pytest.mark.slow
def test_every_rendering_shows_something_else(real_scene, pictures):
    seen = {}
    for rendering in RENDERINGS:
        real_scene.show(changed(real_scene.display, {"rendering": rendering}))
        real_scene.refine()
        seen[rendering] = drawn(real_scene, RENDERING)[20:-40, 10:-10]
        Image.fromarray(seen[rendering].astype(np.uint8)).save(pictures / f"view-3D-{rendering}.png")
    red_minus_blue = {name: (p[..., 0] - p[..., 2])[p.max(axis=2) > 60].mean() for name, p in seen.items()}
    assert red_minus_blue["vessels and bone"] > 40 > abs(red_minus_blue["MIP"]), (
        "vessels are red, a MIP is grey"
    )
    assert red_minus_blue["lung"] < -10, "lungs are blue"
    assert red_minus_blue["vessels and bone"] > red_minus_blue["bone"] + 10, "bone is ivory"
    real_scene.show(changed(real_scene.display, {"rendering": RENDERINGS[0]}))


@pytest.mark.slow
def test_a_real_radiograph_lines_up_with_the_planes(real_scene, pictures):
    picture = drawn(real_scene, mrml.RADIOGRAPH_VIEW)
    Image.fromarray(picture.astype(np.uint8)).save(pictures / "view-radiograph.png")
    grey = picture.mean(axis=2)
    # Both lungs are darker than the mediastinum between them.
    middle = grey[int(0.35 * SIDE) : int(0.5 * SIDE)].mean(axis=0)
    assert middle[int(0.3 * SIDE)] < middle[int(0.5 * SIDE)] > middle[int(0.72 * SIDE)]


@pytest.mark.slow
def test_the_sample_patient_brings_his_true_ctpa(real_scene):
    generated = slicer.util.arrayFromVolume(real_scene.nodes.ctpa).astype(float)
    truth = real_scene.truth
    assert truth.shape == generated.shape
    assert np.corrcoef(generated.ravel(), truth.ravel())[0, 1] > 0.7, "the same patient in the same place"
    mirrored = np.corrcoef(generated[..., ::-1].ravel(), truth.ravel())[0, 1]
    assert np.corrcoef(generated.ravel(), truth.ravel())[0, 1] > mirrored, "left is left"


@pytest.mark.slow
def test_a_results_radiograph_is_found_in_its_own_picture(real_result):
    record = read_record(real_result)
    other = {**record, "input": {**record["input"], "sha256": "00"}}  # not the packaged sample any more
    radiograph = case.radiograph_of(other, real_result)
    assert radiograph.pixels.shape == (610, 610)
    assert radiograph.pixels.std() > 0.1
    with pytest.raises(InputError, match="another file"):
        case.radiograph_of(other, real_result, SAMPLE_CXR)
