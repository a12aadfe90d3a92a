"""Step that assembles a bundle from trained networks, for `xray2ctpa generate`, the panel and the page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DDIMScheduler, DDPMScheduler

from xray2ctpa_core import constants
from xray2ctpa_core.config import replacing
from xray2ctpa_core.data.cases import SETTINGS_FILE
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.latents import read_statistics
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, load_scaling
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.codecs.codec import Codec, IdentityCodec, SliceCodec
from xray2ctpa_core.models.framing.style_transfer import REAL, StyleTransfer
from xray2ctpa_core.pipelines.bundle import (
    FULL_HEAT,
    STEP_CURVE,
    BundleInfo,
    CXRPreprocessing,
    GeometryRule,
    LatentStatistics,
    PEOperatingPoint,
    SamplingDefaults,
)
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.pipelines.paper_run import CONDITIONS_FILE, load_paper_run
from xray2ctpa_core.pipelines.parts import STYLE
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.second_opinion import HEAD_CALIBRATION
from xray2ctpa_core.preprocessing.frame import NORMALISATION
from xray2ctpa_core.training.settings.bundles import PackSettings, StyledSettings

INTENDED_USE = "Research. Not for patient care: a generated CTPA is a hypothesis, never a diagnosis."
#: Metrics of a bundle by which it works; others were measured without the style transfer.
_USED_METRICS = (STEP_CURVE, FULL_HEAT, HEAD_CALIBRATION)
#: Number of volumes, evenly spaced among all, over which the mean extent is computed.
EXTENT_VOLUMES = 50


def run(config: PackSettings, out: Path) -> None:
    """Writes the bundle ``out`` of trained networks."""
    cases = read_latent_cases(Path(config.latents))
    codec = _codec(config)
    parts, scaling = _trained(config)
    grid = _grid(cases[0], codec)
    pipeline = XRay2CTPAPipeline(
        autoencoder=_network(codec),
        pe_classifier=load_part(config.classifier) if config.classifier else None,
        lung_locator=gate_locator(),
        style_transfer=_style(config),
        bundle=_describe(config, cases, grid, scaling),
        **parts,
    )
    with replacing(out) as partial:
        pipeline.save_pretrained(partial)


def styled(config: StyledSettings, out: Path) -> None:
    """Writes the bundle ``out``: another one that reads every radiograph through a style transfer. Its PE
    scores keep their formulas and thresholds but count as uncalibrated: they were fitted without it."""
    pipeline = XRay2CTPAPipeline.from_pretrained(config.bundle)
    own = pipeline.bundle
    metrics = {name: own.metrics[name] for name in _USED_METRICS if name in own.metrics}
    if HEAD_CALIBRATION in metrics:
        metrics[HEAD_CALIBRATION] = metrics[HEAD_CALIBRATION] | {"calibrated": False}
    taught = f"{own.trained_on}; its style transfer was trained on unpaired radiographs, real and computed"
    name = config.name or f"{own.name}-styled"
    uncalibrated = replace(own.pe, calibrated=False)
    info = replace(own, name=name, trained_on=taught, metrics=metrics, pe=uncalibrated)
    parts = pipeline.components | {STYLE: towards_computed(config.style), "bundle": info}
    with replacing(out) as partial:
        XRay2CTPAPipeline(**parts).save_pretrained(partial)


def towards_computed(folder: str) -> StyleTransfer:
    """The style transfer in ``folder``; ConfigError where it leads to the style of real radiographs, which a
    bundle is given anyway."""
    style = load_part(folder)
    if not isinstance(style, StyleTransfer) or style.config["target"] == REAL:
        raise ConfigError(
            f"Expected a style transfer from real to computed radiographs in {folder}, got another network.",
            "Name the folder to_computed of the step style-transfer.",
        )
    return style


def _style(config: PackSettings) -> StyleTransfer | None:
    """The named style transfer, else that of the step radiographs where it leads to computed ones, else
    none: whoever trained on radiographs in the style of real ones reads real ones as they are."""
    if config.style:
        return towards_computed(config.style)
    trained_on = _made(Path(config.radiographs)).get("style")
    style = load_part(trained_on) if trained_on else None
    return None if style is None or style.config["target"] == REAL else style


def _codec(config: PackSettings) -> Codec:
    """The named codec, else the one in the denoiser's folder, else none, for a generator of voxels."""
    own = Path(config.denoiser) / "codec"
    if config.autoencoder or own.is_dir():
        return load_codec(config.autoencoder or own)
    return IdentityCodec()


def _network(codec: Codec) -> Any:
    """The network of a codec, for the bundle."""
    if isinstance(codec, IdentityCodec):
        return codec
    return codec.autoencoder if isinstance(codec, SliceCodec) else codec.vqgan  # type: ignore[attr-defined]


def _is_paper(config: PackSettings) -> bool:
    return (Path(config.denoiser) / CONDITIONS_FILE).is_file()


def _is_global(config: PackSettings) -> bool:
    """Whether the denoiser is conditioned on one vector alone."""
    written = Path(config.denoiser) / "denoiser" / "config.json"
    return _is_paper(config) or json.loads(written.read_text(encoding="utf-8")).get("spatial_channels") == 0


def _trained(config: PackSettings) -> tuple[dict[str, Any], LatentScaling]:
    """Denoiser, encoder, schedule and scaling of latents, according to the kind of step that made the
    folder."""
    if _is_paper(config):
        return _paper(config)
    return _with_encoder(config) if (Path(config.denoiser) / "encoder").is_dir() else _spatial(config)


def _with_encoder(config: PackSettings) -> tuple[dict[str, Any], LatentScaling]:
    """Denoiser, encoder and schedule of the step regressor or prior-denoiser, and its scaling."""
    folder = Path(config.denoiser)
    networks = {
        "denoiser": load_part(folder / "denoiser"),
        "xray_encoder": load_part(folder / "encoder"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
    }
    voxels = isinstance(_codec(config), IdentityCodec)
    return networks, LatentScaling((0.0,), (1.0,)) if voxels else load_scaling(folder / "denoiser")


def _paper(config: PackSettings) -> tuple[dict[str, Any], LatentScaling]:
    """Denoiser, encoder and schedule of the step paper-denoiser, and its scaling."""
    trained = load_paper_run(Path(config.denoiser), "cpu")
    if trained.encoder is None:
        raise ConfigError(
            f"Expected a denoiser with a radiograph in {config.denoiser}, got an unconditional one.",
            "Name the step that was conditioned on radiographs.",
        )
    networks = {"denoiser": trained.model.denoiser, "xray_encoder": trained.encoder}
    return networks | {"scheduler": trained.scheduler}, trained.scaling


def _spatial(config: PackSettings) -> tuple[dict[str, Any], LatentScaling]:
    """Denoiser and schedule of the step spatial-denoiser, with its encoder, and the latents' own scaling."""
    if not config.xray_encoder:
        raise ConfigError(
            "A spatial denoiser needs xray_encoder, got none.", "Name the folder of its network."
        )
    mean, std = read_statistics(Path(config.latents))
    networks = {
        "denoiser": load_part(Path(config.denoiser) / "denoiser"),
        "xray_encoder": load_part(config.xray_encoder),
        "scheduler": DDPMScheduler.from_pretrained(Path(config.denoiser) / "scheduler"),
    }
    return networks, LatentScaling(tuple(mean.flatten().tolist()), tuple(std.flatten().tolist()))


def _grid(case: LatentCase, codec: Codec) -> tuple[int, int, int]:
    """(D, H, W) of what is decoded: of the latents, or of the volume itself."""
    if isinstance(codec, IdentityCodec):
        depth, height, width = read_volume(case.volume).array.shape
        return depth, height, width
    depth, height, width = np.load(case.latents, mmap_mode="r").shape[1:]
    return depth * codec.factors[0], height * codec.factors[1], width * codec.factors[2]


def _extent(cases: list[LatentCase]) -> tuple[float, float, float]:
    """(z, y, x) in mm: mean extent of the training volumes."""
    places = np.unique(np.linspace(0, len(cases) - 1, EXTENT_VOLUMES).round().astype(int))
    sizes = []
    for place in places:
        volume = read_volume(cases[place].volume)
        sizes.append([n * s for n, s in zip(volume.array.shape, volume.spacing[::-1], strict=True)])
    return tuple(float(v) for v in np.mean(sizes, axis=0).round(1))  # type: ignore[return-value]


def _describe(
    config: PackSettings, cases: list[LatentCase], grid: tuple[int, int, int], scaling: LatentScaling
) -> BundleInfo:
    extent, reading = _extent(cases), _reading(Path(config.radiographs))
    if config.framed and reading.framing != "lungs":
        raise ConfigError(
            "Expected radiographs framed by the lungs for framed=true, got whole ones.",
            "Leave framed out: each volume then has the volumes' mean extent.",
        )
    return BundleInfo(
        name=config.name,
        version=config.version,
        licence=config.licence,
        trained_on=config.trained_on,
        intended_use=INTENDED_USE,
        is_demonstration=False,
        hu_window=config.hu_window,
        conditioning="global" if _is_global(config) else "spatial",
        geometry=GeometryRule(
            grid=grid,
            mean_frame_side_mm=extent[0],
            depth_fraction=round(extent[1] / extent[0], 4),
            source_to_detector_mm=constants.SOURCE_TO_DETECTOR_MM,
            detector_to_centre_mm=constants.DETECTOR_TO_CENTRE_MM,
            extent_mm=() if config.framed else extent,
        ),
        cxr=reading,
        sampling=SamplingDefaults(
            config.scheduler,
            config.steps,
            1,
            config.temperature,
            largest_latent=config.largest_latent,
        ),
        latents=LatentStatistics(scaling.shift, scaling.scale),
        pe=PEOperatingPoint(0.5, 1.0, 0.0, calibrated=False),
    )


def _reading(radiographs: Path) -> CXRPreprocessing:
    """Preprocessing of the step radiographs, on whose output the encoder was trained."""
    made = _made(radiographs)
    if made["input"] == "frame":
        return CXRPreprocessing(constants.FRAME_MARGIN, made["pixels"], NORMALISATION)
    return CXRPreprocessing(
        1.0, made["pixels"], "standardised", "whole", made["mean"], made["std"], made["keep_aspect"]
    )


def _made(radiographs: Path) -> dict[str, Any]:
    """Settings of the step radiographs, as it recorded them."""
    path = radiographs / SETTINGS_FILE
    try:
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        needed = ("pixels",) if made["input"] == "frame" else ("pixels", "mean", "std", "keep_aspect")
        if missing := [key for key in needed if key not in made]:
            raise LookupError(f"no {', '.join(missing)}")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"Expected the settings of the step radiographs in {path}, got: {error}.",
            "Run that step of the recipe first.",
        ) from error
    return made
