"""Published XctDiff checkpoints -> a bundle that `generate`, the panel and the page run."""

from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.diffusion.schedulers import xctdiff_schedule
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.pipelines import convert_xctdiff
from xray2ctpa_core.pipelines.bundle import CXRPreprocessing, LatentStatistics, SamplingDefaults
from xray2ctpa_core.pipelines.convert import Conversion
from xray2ctpa_core.pipelines.converted_bundle import converted_bundle, gate_locator
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline


@dataclass(frozen=True)
class PublishedSettings:
    """Settings that the published code does not save in its checkpoints.

    Attributes:
        hu_window: (lower, upper) HU that the codec maps to -1 and 1. The release scales every volume by its
            own extremes, so that its voxels have no HU; the default is the range of X2CT-GAN, whose data it
            uses.
        latent_scale: factor of the latents before noise is added.
        extent_mm: (z, y, x) of every volume: X2CT-GAN's cube.
        steps: of DDIM.
    """

    hu_window: tuple[float, ...] = (-1000.0, 1500.0)
    latent_scale: float = 0.6
    extent_mm: tuple[float, ...] = (320.0, 320.0, 320.0)
    steps: int = 50


def convert_xctdiff_bundle(
    checkpoint: Path,
    settings: PublishedSettings,
    codec: Path | None = None,
    encoder: Path | None = None,
    weights: str | None = None,
    name: str = "xctdiff",
) -> tuple[XRay2CTPAPipeline, Conversion]:
    """The pipeline of the release: 3D VQGAN, progressive encoder, denoiser; no PE classifier.

    Args:
        checkpoint: of the diffusion stage, which holds all three networks.
        settings: see the class.
        codec, encoder: other checkpoints, of the first two stages.
        weights: "ema" or "model"; None takes averaged ones if a file has them.
        name: of the bundle.

    Raises:
        InputError: no such file.
        BundleError: a network is missing, does not fit, or does not match the others.
    """
    denoiser, conversion = convert_xctdiff.convert_denoiser(checkpoint, weights)
    vqgan, _ = convert_xctdiff.convert_vqgan(codec or checkpoint)
    progressive, _ = convert_xctdiff.convert_encoder(encoder or checkpoint)
    channels = vqgan.config["latent_channels"]
    if denoiser.config["latent_channels"] != channels:
        raise BundleError(
            f"The denoiser works on {denoiser.config['latent_channels']} latent channels, the codec on "
            f"{channels}.",
            "Name the codec that the denoiser was trained with by --codec.",
        )
    grid = tuple(progressive.config["depth"] * factor for factor in vqgan.factors)
    info = converted_bundle(
        name,
        "CT",
        grid,
        settings.extent_mm,
        settings.hu_window,
        conditioning="spatial",
        cxr=CXRPreprocessing(1.0, progressive.pixels, "standardised", "whole", 0.0, 1.0, keep_aspect=False),
        sampling=SamplingDefaults("ddim", settings.steps, 1),
        latents=LatentStatistics((0.0,) * channels, (1 / settings.latent_scale,) * channels),
    )
    pipeline = XRay2CTPAPipeline(
        autoencoder=vqgan,
        denoiser=denoiser,
        scheduler=xctdiff_schedule(),
        xray_encoder=progressive,
        pe_classifier=None,
        lung_locator=gate_locator(),
        bundle=info,
    )
    return pipeline, conversion
