"""The common parts of bundles of published checkpoints: origin, geometry, gate, no calibration."""

import os

from xray2ctpa_core.constants import DEFAULT_BUNDLE, DETECTOR_TO_CENTRE_MM, SOURCE_TO_DETECTOR_MM
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.pipelines.bundle import (
    PROVENANCE_FILE,
    BundleInfo,
    CXRPreprocessing,
    GeometryRule,
    LatentStatistics,
    PEOperatingPoint,
    SamplingDefaults,
)
from xray2ctpa_core.pipelines.loading import load_bundle, load_part


def gate_locator(folder: str | os.PathLike[str] = "") -> LungLocator:
    """The lung locator in ``folder``, fp32; without one that of the embedded bundle: the releases have no
    gate."""
    locator: LungLocator = load_part(folder or load_bundle(DEFAULT_BUNDLE)[0] / "lung_locator")
    return locator


def converted_bundle(
    name: str,
    volume: str,
    grid: tuple[int, ...],
    extent_mm: tuple[float, ...],
    hu_window: tuple[float, ...],
    conditioning: str,
    cxr: CXRPreprocessing,
    sampling: SamplingDefaults,
    latents: LatentStatistics,
) -> BundleInfo:
    """The description of a published system, all volumes of which have the same grid and extent.

    Args:
        name: of the bundle.
        volume: "CTPA" or "CT", for the statement of the intended use.
        grid: (D, H, W) voxels.
        extent_mm: (z, y, x) of every volume.
        hu_window: (lower, upper) HU that the codec maps to -1 and 1.
        conditioning, cxr, sampling, latents: as in BundleInfo.
    """
    return BundleInfo(
        name=name,
        version="converted",
        licence="that of the checkpoint",
        trained_on="what the published checkpoint was trained on; see " + PROVENANCE_FILE,
        intended_use=f"Research. Not for patient care: a generated {volume} is a hypothesis, "
        "never a diagnosis.",
        is_demonstration=False,
        hu_window=hu_window,
        conditioning=conditioning,
        geometry=GeometryRule(
            grid=grid,
            mean_frame_side_mm=extent_mm[2],
            depth_fraction=extent_mm[1] / extent_mm[2],
            source_to_detector_mm=SOURCE_TO_DETECTOR_MM,
            detector_to_centre_mm=DETECTOR_TO_CENTRE_MM,
            extent_mm=extent_mm,
        ),
        cxr=cxr,
        sampling=sampling,
        latents=latents,
        pe=PEOperatingPoint(0.5, 1.0, 0.0, calibrated=False),
    )
