"""A bundle of a few bytes whose bundle.json is real: enough for whatever fails before the networks load."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from xray2ctpa_core.pipelines.bundle import (
    BundleInfo,
    CXRPreprocessing,
    GeometryRule,
    LatentStatistics,
    PEOperatingPoint,
    SamplingDefaults,
    write_bundle_json,
)


def tiny_info() -> BundleInfo:
    return BundleInfo(
        name="tiny",
        version="0.1",
        licence="Apache-2.0",
        trained_on="nothing",
        intended_use="tests",
        is_demonstration=True,
        hu_window=(-1000.0, 900.0),
        conditioning="spatial",
        geometry=GeometryRule((8, 16, 16), 307.0, 0.8, 1800.0, 150.0),
        cxr=CXRPreprocessing(1.18, 32, "equalised"),
        sampling=SamplingDefaults("dpm++", 2, 1),
        latents=LatentStatistics((0.0, 0.1), (1.0, 2.0)),
        pe=PEOperatingPoint(0.5, 1.0, 0.0, False),
        metrics={"psnr": 20.5},
    )


def write_tiny_bundle(folder: Path) -> Path:
    """Writes the bundle with one weight file, an index and a card into the new folder ``folder``."""
    (folder / "denoiser").mkdir(parents=True)
    save_file({"weight": np.ones(4, np.float32)}, str(folder / "denoiser" / "model.safetensors"))
    (folder / "model_index.json").write_text("{}", encoding="utf-8")
    (folder / "README.md").write_text("card", encoding="utf-8")
    write_bundle_json(folder, tiny_info())
    return folder
