"""The files of a result: which there are, and the images among them."""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray2ctpa_core.constants import SYNTHETIC
from xray2ctpa_core.io.names import stem_of
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.volume import Volume

if TYPE_CHECKING:
    from PIL import Image

CTPA = "ctpa.nii.gz"
GRADCAM = "gradcam.nii.gz"
GRADCAM_LABEL = "gradcam-label.nii.gz"
SPREAD = "spread.nii.gz"
RADIOGRAPH_GRADCAM = "radiograph-gradcam.nii.gz"
RECORD = "result.json"
PREVIEW = "preview.png"
#: What every complete result holds; SPREAD comes with more than one sample, RADIOGRAPH_GRADCAM with a second
#: opinion.
ALWAYS = (CTPA, GRADCAM, GRADCAM_LABEL, RECORD, PREVIEW)
#: CTPA, twice where a disk has no links, Grad-CAM, its labels and the spread, uncompressed; and the other
#: files with room to spare.
BYTES_PER_VOXEL = 2 + 2 + 4 + 1 + 4
BYTES_BESIDES = 8 << 20
#: Half the time of PNG's own level, 6, for 2 % more bytes.
_PNG_LEVEL = 3


def needed_bytes(grid: Sequence[int]) -> int:
    """Disk space that a result on ``grid`` (D, H, W) needs at most."""
    return math.prod(grid) * BYTES_PER_VOXEL + BYTES_BESIDES


def named_ctpa(radiograph: str) -> str:
    """Second name of the volume, for people and other programs: it says what it is and what it was made of.

    Args:
        radiograph: name of its file.
    """
    return f"{SYNTHETIC}-{stem_of(radiograph)}-{CTPA}"


def write_volumes(
    folder: Path,
    radiograph: str,
    ctpa: Volume,
    gradcam: Volume,
    gradcam_label: np.ndarray,
    spread: Volume | None,
    radiograph_gradcam: Volume | None = None,
) -> None:
    """Writes the volumes of a result into ``folder``, all but the last on the grid of ``ctpa``.

    Every header says SYNTHETIC; the volume has a second name (a hard link) that does.

    Args:
        folder: of the result.
        radiograph: name of the radiograph's file.
        ctpa: HU, stored as int16.
        gradcam: 0..1, stored as float32.
        gradcam_label: (D, H, W), 0 and 1..3 = low, medium, high.
        spread: standard deviation over samples in HU, stored as float32; None for a single sample.
        radiograph_gradcam: 0..1, of the second opinion, on the radiograph, stored as float32; None without.

    Raises:
        OutputError: the place cannot be written or is full.
    """
    from xray2ctpa_core.io.volumes import write_volume  # nibabel: half a second that names do not need

    of_volume = "of a generated volume"
    write_volume(ctpa, folder / CTPA, np.int16, f"{SYNTHETIC} CTPA in HU, generated from one radiograph")
    write_volume(gradcam, folder / GRADCAM, np.float32, f"{SYNTHETIC}: Grad-CAM {of_volume}")
    labels = ctpa.with_array(gradcam_label)
    write_volume(labels, folder / GRADCAM_LABEL, np.uint8, f"{SYNTHETIC}: Grad-CAM labels {of_volume}")
    if spread is not None:
        write_volume(spread, folder / SPREAD, np.float32, f"{SYNTHETIC}: spread in HU {of_volume}s")
    if radiograph_gradcam is not None:
        title = f"{SYNTHETIC}: Grad-CAM of the second opinion, on the radiograph"
        write_volume(radiograph_gradcam, folder / RADIOGRAPH_GRADCAM, np.float32, title)
    with writing(folder):
        try:
            os.link(folder / CTPA, folder / named_ctpa(radiograph))
        except OSError:  # a disk without hard links
            shutil.copyfile(folder / CTPA, folder / named_ctpa(radiograph))


def write_record(folder: Path, text: str) -> None:
    """Writes result.json; raises OutputError if the place cannot be written or is full."""
    with writing(folder):
        (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> Any:
    """The content of result.json, unchecked; raises OSError or ValueError where there is none."""
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


def write_picture(path: Path, picture: "Image.Image") -> None:
    """Writes a PNG; raises OutputError if the place cannot be written or is full."""
    with writing(path.parent):
        picture.save(path, format="PNG", compress_level=_PNG_LEVEL)
