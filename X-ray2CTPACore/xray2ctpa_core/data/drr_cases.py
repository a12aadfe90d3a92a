"""The computed radiograph of one study, with provenance."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.data.ctpa_cases import ct_of, ct_source
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.simulation.drr import DrrSettings, render_drr
from xray2ctpa_core.volume import Volume

#: One coronal slice of line integrals, with the pixel size at the detector; `read_radiograph` reads it.
DRR_FILE = "drr.nii.gz"


def write_drr(settings: DrrSettings, study: Study, folder: Path) -> dict[str, Any]:
    """Writes DRR_FILE and returns the record.

    Raises:
        InputError: the study has no CT, or it cannot be read or used.
    """
    scan = ct_of(study)
    image, pixel_mm = render_drr(scan.volume, settings)
    write_volume(_coronal(image, pixel_mm), folder / DRR_FILE, np.float32)
    return {
        "source": ct_source(study, scan),
        "settings": asdict(settings),
        "pixel_mm": pixel_mm,
        "magnification_at_centre": settings.source_to_detector_mm / settings.source_to_centre_mm,
        "shape": list(image.shape),
    }


def _coronal(image: np.ndarray, pixel_mm: float) -> Volume:
    """(P, 1, P): the radiograph as a coronal slice, columns to the left, k upwards, centred on the origin."""
    rows, columns = image.shape
    affine = np.diag([pixel_mm, pixel_mm, pixel_mm, 1.0])
    affine[:3, 3] = [-(columns - 1) / 2 * pixel_mm, 0.0, -(rows - 1) / 2 * pixel_mm]
    return Volume(np.ascontiguousarray(image[::-1, None]), affine)
