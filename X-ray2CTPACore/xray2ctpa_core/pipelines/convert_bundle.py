"""A published X-ray2CTPA checkpoint -> a bundle that `generate`, the panel and the page run."""

from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.diffusion.latent_scaling import min_max_scaling
from xray2ctpa_core.diffusion.schedulers import papers_schedule
from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.models.encoders.published import PublishedEncoder, encoder_name
from xray2ctpa_core.pipelines.bundle import CXRPreprocessing, LatentStatistics, SamplingDefaults
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.convert import (
    Conversion,
    convert_classifier,
    convert_denoiser,
    encoder_tensors,
)
from xray2ctpa_core.pipelines.converted_bundle import converted_bundle, gate_locator
from xray2ctpa_core.pipelines.encoders import PUBLISHED, load_published_encoder
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline


@dataclass(frozen=True)
class PublishedSettings:
    """Settings that the published code does not save in its checkpoints.

    Attributes:
        latent_grid: (d, h, w) of the latents.
        hu_window: (lower, upper) HU that the codec maps to -1 and 1; the default is the paper's. The
            released scripts have others (-200..500, LIDC -1200..600).
        latent_low, latent_high, latent_factor: the range of the latents
            (diffusion.latent_scaling.min_max_scaling), the release's for CTPA, and AutoencoderKL's scaling.
        extent_mm: (z, y, x) of every volume. The release resizes every lung box to one grid and does not
            keep its size; the default is about that of an adult's lungs.
        steps: of ancestral sampling, evenly spaced among the 1000.
        pixels, mean, std: of the encoder's input, the whole radiograph squashed to a square.
    """

    latent_grid: tuple[int, ...] = (64, 32, 32)
    hu_window: tuple[float, ...] = (-100.0, 900.0)
    latent_low: float = -12.911299
    latent_high: float = 9.596558
    latent_factor: float = 0.18215
    extent_mm: tuple[float, ...] = (260.0, 210.0, 290.0)
    steps: int = 25
    pixels: int = 224
    mean: float = 0.633
    std: float = 0.181


def convert_x_ray2ctpa(
    checkpoint: Path,
    codec: Path,
    encoder: str,
    settings: PublishedSettings,
    weights: str | None = None,
    classifier: Path | None = None,
    name: str = "x-ray2ctpa",
) -> tuple[XRay2CTPAPipeline, Conversion]:
    """The pipeline of the release: its U-Net, an AutoencoderKL of the SD kind, a frozen or trained radiograph
    encoder, its latent classifier, the whole radiograph as frame.

    Args:
        checkpoint: of the trainer; if it holds an encoder, its weights replace those of ``encoder``.
        codec: folder of an AutoencoderKL.
        encoder: a folder of an encoder in its published form or as our training saves it, or a name of
            pipelines.encoders.PUBLISHED.
        settings: see the class.
        weights: as in convert.convert_denoiser.
        classifier: another checkpoint, of the latent classifier; None takes the one in ``checkpoint``.
        name: of the bundle.

    Raises:
        InputError: no such file or folder.
        BundleError: a checkpoint does not fit, or there is no classifier.
    """
    if not Path(codec).is_dir():
        raise InputError(f"Expected the folder of an AutoencoderKL, got {codec}, which is none.")
    denoiser, conversion = convert_denoiser(checkpoint, weights)
    if denoiser.config["token_values"]:
        raise BundleError(
            f"{checkpoint.name} was trained with medclip=False and reads all tokens of CLIP's image tower; "
            "no encoder of a bundle gives them.",
            "Its denoiser alone is converted by xray2ctpa convert upstream-denoiser.",
        )
    try:
        network, _ = convert_classifier(classifier or checkpoint, None if classifier else weights)
    except BundleError as error:
        if classifier is not None:
            raise
        raise BundleError(
            f"{checkpoint.name} holds no latent PE classifier that fits: {error.message}",
            "Name the classifier's own checkpoint by --classifier.",
        ) from error
    radiograph_encoder = encoder_of(encoder)
    trained = encoder_tensors(checkpoint, weights, radiograph_encoder.trunk.state_dict())
    if trained is not None:
        radiograph_encoder.trunk.load_state_dict(trained)
    if radiograph_encoder.embedding_dim != denoiser.config["embedding_dim"]:
        raise BundleError(
            f"The denoiser expects an embedding of {denoiser.config['embedding_dim']} numbers, the encoder "
            f"{encoder} gives {radiograph_encoder.embedding_dim}.",
            "Name the encoder that the denoiser was trained with.",
        )
    slices = load_codec(codec)
    grid = tuple(n * f for n, f in zip(settings.latent_grid, slices.factors, strict=True))
    scaling = min_max_scaling(
        settings.latent_low, settings.latent_high, settings.latent_factor, denoiser.config["latent_channels"]
    )
    info = converted_bundle(
        name,
        "CTPA",
        grid,
        settings.extent_mm,
        settings.hu_window,
        conditioning="global",
        cxr=CXRPreprocessing(
            1.0, settings.pixels, "standardised", "whole", settings.mean, settings.std, keep_aspect=False
        ),
        sampling=SamplingDefaults("ddpm", settings.steps, 1, largest_latent=1.0),
        latents=LatentStatistics(scaling.shift, scaling.scale),
    )
    pipeline = XRay2CTPAPipeline(
        autoencoder=slices.autoencoder,  # type: ignore[attr-defined]
        denoiser=denoiser,
        scheduler=papers_schedule(),
        xray_encoder=radiograph_encoder,
        pe_classifier=network,
        lung_locator=gate_locator(),
        bundle=info,
    )
    return pipeline, conversion


def encoder_of(encoder: str) -> PublishedEncoder:
    """The encoder ``encoder``: a name of PUBLISHED, or a folder, whose files determine its kind."""
    if not Path(encoder).is_dir():
        return load_published_encoder(encoder)
    folder = Path(encoder)
    if (kind := encoder_name(folder)) is not None:
        return load_published_encoder(kind, encoder)
    files = {name: kind for kind, (_, names) in PUBLISHED.items() for name in names[:1]}
    kinds = [kind for name, kind in files.items() if (folder / name).is_file()]
    if not kinds:
        raise InputError(
            f"Expected an encoder in {folder}, found none of {', '.join(files)}.",
            f"Name one of {', '.join(PUBLISHED)}, or a folder with its published files.",
        )
    return load_published_encoder(kinds[0], encoder)
