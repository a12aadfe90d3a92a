"""The fit of cut-off edges: what a cut leaves, what the lungs lose by it, and the rates that are printed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ct_series import phantom
from PIL import Image

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.preprocessing.cut_edge import EDGES
from xray2ctpa_core.training.settings.gate import CutEdgeSettings, MeasureGateSettings
from xray2ctpa_core.volume import FrontalFrame

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Training"))
from steps import fit_cut_edges, measure_gate


def test_a_cut_takes_its_share_off_one_edge() -> None:
    parts = {
        EDGES[edge]: part
        for edge, share, part in fit_cut_edges.cuts((100, 0, 300, 400), (0.06, 0.12))
        if share == 0.12
    }

    assert parts == {
        "top": (124, 0, 300, 400),
        "left": (100, 48, 300, 400),
        "bottom": (100, 0, 276, 400),
        "right": (100, 0, 300, 352),
    }


def test_what_the_lungs_lose_is_their_area_outside_the_part() -> None:
    lungs = np.zeros((10, 10), bool)
    lungs[2:7] = True  # rows 20 to 69 of a radiograph of 100 x 100

    assert fit_cut_edges.loss_of(lungs, FrontalFrame(0, 0, 100), (40, 0, 100, 100)) == pytest.approx(0.4)


def test_rates_count_whole_radiographs_and_those_whose_lungs_were_cut(capsys) -> None:
    views = fit_cut_edges.Views(
        cut=[-1, -1, 0, 0, 2, 1],
        share=[0.0, 0.0, 0.12, 0.12, 0.12, 0.2],
        loss=[0.0, 0.0, 0.05, 0.0, 0.02, 0.5],
        contact=[(0.0, 0.0, 0.0, 0.0)] * 4 + [(0.0, 0.0, 0.2, 0.0)] * 2,
    )
    found = np.zeros((6, 4))
    found[0, 3] = found[2, 0] = 1.0

    fit_cut_edges.report("six", views, found)

    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "six: 1 of 2 (50%) whole radiographs are warned of."
    assert printed[1] == (
        "six, 12% cut off at top: 1 of 1 (100%) that lose 1% or more of the lungs, 0 of 1 (0%) others."
    )
    assert printed[-1] == (
        "six, 12% cut off at all edges: 2 of 2 (100%) that lose 1% or more of the lungs, 0 of 1 (0%) others."
    )


def test_five_patients_give_three_rows_of_weights_and_four_are_refused(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "radiographs"
    folder.mkdir()
    chest = Image.open(SAMPLE_CXR).crop((50, 45, 270, 250))  # its lungs: 63 to 256 by 60 to 234 of 320 x 320
    for patient in range(4):
        chest.save(folder / f"{patient}_0.png")
    with pytest.raises(InputError, match="at least 5 patients, got 4"):
        fit_cut_edges.run(CutEdgeSettings((str(folder),)), tmp_path / "out")
    chest.save(folder / "4_0.png")

    fit_cut_edges.run(CutEdgeSettings((str(folder),)), tmp_path / "out")

    rows = (tmp_path / "out" / "weights.txt").read_text().splitlines()
    assert [row.split(":")[0] for row in rows] == ['"top"', '"side"', '"bottom"']
    assert [row.count(", ") + 1 for row in rows] == [24] * 3
    assert "0 of 5 (0%) whole radiographs are warned of" in capsys.readouterr().out


def test_the_gates_figures_are_printed_of_a_folder(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "chests"
    folder.mkdir()
    Image.open(SAMPLE_CXR).resize((256, 256)).save(folder / "one.png")

    measure_gate.run(MeasureGateSettings((str(folder),)), tmp_path / "out")

    printed = capsys.readouterr().out
    assert "chests: 1 of 1 radiographs are accepted. Of 1 with both lungs" in printed
    assert "0 of 1 (0%) as they are" in printed
    assert (
        "Side markers read: 0, 0 of them written backwards; on the other side than expected: none." in printed
    )
    assert (tmp_path / "out" / "gate.txt").read_text() == printed


def test_the_gates_figures_of_obliques_are_printed_of_a_folder_of_cts(tmp_path: Path, capsys) -> None:
    """A phantom of ellipses is no chest: the counts are of its projections, not of what the gate says."""
    (tmp_path / "cts").mkdir()
    write_volume(phantom(), tmp_path / "cts" / "one.nii.gz", np.int16)

    measure_gate.run(MeasureGateSettings(cts=(str(tmp_path / "cts"),)), tmp_path / "out")

    printed = capsys.readouterr().out
    assert printed.startswith("cts: of projections of 1 CTs, at 0 degrees ")
    assert [printed.count(f" of {n} are accepted") for n in (1, 2)] == [1, 3]


def test_the_middle_of_a_radiograph_is_a_share_of_its_content() -> None:
    pixels = np.zeros((100, 200), np.float32)
    pixels[:, 50:150] = np.random.default_rng(0).random((100, 100))  # a border of 50 columns on both sides

    assert np.array_equal(measure_gate.middle(pixels), pixels[20:80, 70:130])


def test_a_feature_speaks_only_for_what_it_means() -> None:
    """Far lungs that end flat were cut here, against all sense: neither feature may say so."""
    x = np.zeros((40, 23))
    x[:20, 0], x[20:, 0] = 0.1, 0.0
    x[:20, 17] = 0.5
    y = np.arange(40) < 20

    weights = fit_cut_edges.fitted(x, y, np.ones(40), 1.0)

    assert weights[0] == 0
    assert weights[17] > 0
    assert ((x @ weights[:-1] + weights[-1] > 0) == y).all()
