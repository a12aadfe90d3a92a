"""CTs of studies in the lungs' box or in the radiograph's frame, on a phantom of known size."""

from pathlib import Path

import numpy as np
import pytest
from ct_series import phantom

from xray2ctpa_core.constants import DEPTH_FRACTION, FRAME_MARGIN
from xray2ctpa_core.data.ctpa_cases import framed_ctpa, write_ctpa
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.io.volumes import read_volume, write_volume
from xray2ctpa_core.preprocessing.ctpa import CtpaSettings
from xray2ctpa_core.preprocessing.lungs import segment_lungs
from xray2ctpa_core.simulation.lung_frame import lung_frame
from xray2ctpa_core.volume import Volume

FRAMED = CtpaSettings(4.0, (-1000, 900), "frame", "threshold", shape=(24, 48, 48), interleave=1)


def fine_phantom() -> Volume:
    """The phantom in voxels of 5 mm: lungs 190 mm high, 240 mm over both, their middle at (10, -20, 30)."""
    return phantom((48, 64, 64))


def test_the_frame_is_a_square_around_the_lungs() -> None:
    (made,) = framed_ctpa(fine_phantom(), FRAMED).volumes
    x, y, z = made.spacing
    assert x * 48 == pytest.approx(z * 24)
    assert y * 48 == pytest.approx(DEPTH_FRACTION * x * 48)
    assert x * 48 == pytest.approx(FRAME_MARGIN * 240, abs=10)
    middle = made.affine @ [23.5, 23.5, 11.5, 1]
    assert middle[:3] == pytest.approx([10, -20 - 16, 30], abs=4)


def test_the_frame_is_the_one_that_an_evaluation_compares_in() -> None:
    (made,) = framed_ctpa(fine_phantom(), FRAMED).volumes
    lungs, _ = segment_lungs(fine_phantom(), "threshold")
    frame = lung_frame(fine_phantom().with_array(lungs.astype(np.float32)))
    assert made.spacing[0] * 48 == pytest.approx(frame.side, abs=8)
    assert (made.affine @ [23.5, 23.5, 11.5, 1])[:3] == pytest.approx(frame.centre, abs=4)


def test_beyond_the_scan_its_outermost_voxels_are_repeated() -> None:
    short = fine_phantom()
    cut = Volume(short.array[10:38], short.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 10],
                                                              [0, 0, 0, 1.0]]))  # fmt: skip
    (made,) = framed_ctpa(cut, FRAMED).volumes
    assert made.array[0, 24, 24] == pytest.approx(40, abs=1), "tissue between the lungs, not air"
    assert made.array[-1, 24, 24] == pytest.approx(40, abs=1)


def test_a_frame_needs_lungs_to_lie_around() -> None:
    with pytest.raises(ConfigError, match="Expected lungs for crop=frame, got none"):
        CtpaSettings(crop="frame", lungs="none")
    with pytest.raises(ConfigError, match="Expected crop out of box, frame"):
        CtpaSettings(crop="square")


def test_a_case_says_that_it_has_no_box(tmp_path: Path) -> None:
    write_volume(fine_phantom(), tmp_path / "ct.nii.gz", np.int16)
    study = Study("s", "p", tmp_path / "ct.nii.gz", None, None, "train")
    record = write_ctpa(FRAMED, study, tmp_path)
    assert record["crop_box"] is None
    assert record["settings"]["crop"] == "frame"
    assert read_volume(tmp_path / "ctpa-0.nii.gz").array.shape == (24, 48, 48)
