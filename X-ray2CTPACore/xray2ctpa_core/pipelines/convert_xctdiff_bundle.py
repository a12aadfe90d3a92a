"""Published XctDiff checkpoints -> a bundle that `generate`, the panel and the page run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diffusers import DDIMScheduler

from xray2ctpa_core.diffusion.schedulers import xctdiff_schedule
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.pipelines import convert_xctdiff
from xray2ctpa_core.pipelines.bundle import CXRPreprocessing, LatentStatistics, SamplingDefaults
from xray2ctpa_core.pipelines.convert import DENOISER_GROUPS, Conversion
from xray2ctpa_core.pipelines.convert_xctdiff import ENCODER_GROUPS, VQGAN_GROUPS
from xray2ctpa_core.pipelines.converted_bundle import converted_bundle, gate_locator
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline


@dataclass(frozen=True)
class PublishedSettings:
    """Settings that the published code does not save in its checkpoints.

    Attributes:
        hu_window: (lower, upper) HU that the codec maps to -1 and 1. The release scales every volume by its
            own extremes, so that its voxels have no HU; the default is the range of X2CT-GAN, whose data it
            uses.
        latent_scale: factor of the latents before noise is added; None for the checkpoint's own, else the
            published configuration's.
        extent_mm: (z, y, x) of every volume: X2CT-GAN's cube.
        steps: of DDIM.
        groups: of the normalisations of codec, encoder and denoiser, which no tensor's shape shows.
    """

    hu_window: tuple[float, ...] = (-1000.0, 1500.0)
    latent_scale: float | None = None
    extent_mm: tuple[float, ...] = (320.0, 320.0, 320.0)
    steps: int = 50
    groups: tuple[int, ...] = (VQGAN_GROUPS, ENCODER_GROUPS, DENOISER_GROUPS)


#: Factor of the latents in the published configuration.
RELEASED_SCALE = 0.6
#: Betas that differ by less are those of the published configuration, rounded.
_SAME_BETAS = 1e-6


def released_schedule(betas: list[float] | None = None) -> DDIMScheduler:
    """The release's DDIM (`xctdiff_schedule`), on ``betas`` if a checkpoint has others than the release."""
    schedule = xctdiff_schedule()
    if betas is None:
        return schedule
    same = len(betas) == len(schedule.betas) and np.allclose(betas, schedule.betas, rtol=0, atol=_SAME_BETAS)
    if same:
        return schedule
    return DDIMScheduler.from_config(schedule.config, trained_betas=betas, num_train_timesteps=len(betas))


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
    of_codec, of_encoder, of_denoiser = settings.groups
    denoiser, conversion = convert_xctdiff.convert_denoiser(checkpoint, weights, of_denoiser, True)
    vqgan, _ = convert_xctdiff.convert_vqgan(codec or checkpoint, None, of_codec, True)
    progressive, _ = convert_xctdiff.convert_encoder(encoder or checkpoint, None, of_encoder, True)
    scale = settings.latent_scale or convert_xctdiff.stated_scale(checkpoint) or RELEASED_SCALE
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
        latents=LatentStatistics((0.0,) * channels, (1 / scale,) * channels),
    )
    pipeline = XRay2CTPAPipeline(
        autoencoder=vqgan,
        denoiser=denoiser,
        scheduler=released_schedule(convert_xctdiff.stated_betas(checkpoint)),
        xray_encoder=progressive,
        pe_classifier=None,
        lung_locator=gate_locator(),
        bundle=info,
    )
    return pipeline, conversion
