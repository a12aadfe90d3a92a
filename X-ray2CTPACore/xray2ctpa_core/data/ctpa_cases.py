"""The CTPA of one study on the networks' grid, with provenance, and the reading of a study's CT."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.constants import DEPTH_FRACTION
from xray2ctpa_core.data.cases import save_array
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import CtScan, read_ct
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.preprocessing.ctpa import (
    FRAME,
    CtpaSettings,
    ProcessedCtpa,
    isotropic,
    preprocess_ctpa,
    shape_of,
)
from xray2ctpa_core.preprocessing.grid import alternate_slices, resample_onto
from xray2ctpa_core.preprocessing.lungs import segment_lungs
from xray2ctpa_core.simulation.build import MAP_FILE
from xray2ctpa_core.simulation.lung_frame import continued, lung_frame
from xray2ctpa_core.simulation.people.prepare import map_to_reference
from xray2ctpa_core.volume import Volume


def ctpa_files(interleave: int) -> tuple[str, ...]:
    """Names of the volumes of one scan: ctpa-0.nii.gz holds its slices 0, n, 2n, ..., ctpa-1.nii.gz 1, ..."""
    return tuple(f"ctpa-{n}.nii.gz" for n in range(interleave))


def write_ctpa(settings: CtpaSettings, study: Study, folder: Path) -> dict[str, Any]:
    """Writes `ctpa_files` (int16 HU), with ``settings.map`` also MAP_FILE, and returns the record.

    Raises:
        InputError: the study has no CT, or it cannot be read or used.
    """
    scan = ct_of(study)
    made = (framed_ctpa if settings.crop == FRAME else preprocess_ctpa)(scan.volume, settings)
    names = ctpa_files(settings.interleave)
    for name, volume in zip(names, made.volumes, strict=True):
        write_volume(volume, folder / name, np.int16)
    if settings.map:
        (volume,) = made.volumes
        found = map_to_reference(scan.volume, volume.affine, volume.array.shape, scan.path)
        save_array(found.astype(np.float16), folder / MAP_FILE)
    return {
        "source": ct_source(study, scan),
        "settings": asdict(settings),
        "lungs": made.lungs,
        "isotropic_grid": list(made.grid),
        "map": MAP_FILE if settings.map else None,
        "crop_box": None if made.box is None else [list(edges) for edges in made.box],
        "volumes": {
            name: {"shape": list(volume.array.shape), "affine_lps": volume.affine.tolist()}
            for name, volume in zip(names, made.volumes, strict=True)
        },
    }


def framed_ctpa(volume: Volume, settings: CtpaSettings) -> ProcessedCtpa:
    """The CT in the frame that a radiograph of the person would be given: what the spatial networks' volume
    is, and what `evaluate` compares with. Beyond the scan its outermost voxels are repeated.

    Raises:
        InputError: NaN or infinite voxels, or no lungs found.
    """
    fine = isotropic(volume, settings)
    mask, used = segment_lungs(fine, settings.lungs, settings.lungmask_weights)
    frame = lung_frame(fine.with_array(mask.astype(np.float32)))
    depth, height, width = settings.shape
    affine = frame.affine((depth, height, width), DEPTH_FRACTION)
    lower, upper = settings.window
    windowed = fine.with_array(np.clip(fine.array, lower, upper))
    made = resample_onto(continued(windowed, frame.side / 2), affine, (depth, height, width))
    return ProcessedCtpa(alternate_slices(made, settings.interleave), None, shape_of(fine), used)


def ct_of(study: Study) -> CtScan:
    """The study's CT; raises InputError where it has none or it cannot be read."""
    if study.volume is None:
        raise InputError(f"Expected a CT of study {study.id}, got none in its table.")
    return read_ct(study.volume, study.correction)


def ct_source(study: Study, scan: CtScan) -> dict[str, Any]:
    """Record of a CT's source and of its original grid."""
    return {
        "where": study.where,
        "path": str(scan.path),
        "files": scan.files,
        "sha256": scan.sha256,
        "shape": list(scan.volume.array.shape),
        "spacing_mm": list(scan.volume.spacing),
        "affine_lps": scan.volume.affine.tolist(),
        "notes": list(scan.notes),
    }
