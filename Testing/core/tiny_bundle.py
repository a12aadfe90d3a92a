"""Two bundles for tests: one of a few bytes, and one of real networks at tiny size with random weights."""

import dataclasses
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


def write_tiny_pipeline(folder: Path) -> Path:
    """Writes a bundle that loads and generates: real classes, random weights, a grid of 32 x 64 x 64."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler

    from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
    from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
    from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
    from xray2ctpa_core.models.framing.lung_locator import LungLocator
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

    torch.manual_seed(0)
    info = tiny_info()
    geometry = dataclasses.replace(info.geometry, grid=(32, 64, 64))
    cxr = dataclasses.replace(info.cxr, frame_pixels=128)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    denoiser = SpatialDenoiser(2, 10, 16, (8, 16), 16, residual_std=(1.0, 1.0), map_std=(0.05, 0.05, 0.05))
    torch.nn.init.normal_(denoiser.leave.weight, std=0.05)  # its zeros would make every sample plain noise
    encoder = XrayEncoder((8, 8, 16), (32, 32, 32), 8, 16, 2, (8, 16, 16), 2, 2, 8)
    pipeline = XRay2CTPAPipeline(
        autoencoder=AutoencoderKL(
            in_channels=1,
            out_channels=1,
            latent_channels=2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            **blocks,
        ),
        denoiser=denoiser,
        scheduler=DDPMScheduler(prediction_type="v_prediction"),
        xray_encoder=encoder,
        pe_classifier=PEClassifier(2, 8, 4, (1, 1, 1), 0.0),
        lung_locator=LungLocator((4, 8, 8), 32),
        bundle=dataclasses.replace(info, geometry=geometry, cxr=cxr),
    )
    pipeline.save_pretrained(folder)
    return folder
