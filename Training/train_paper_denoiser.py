"""The papers' denoiser: unconditional, conditioned on computed or real radiographs, or for a new modality by
LoRA.

python Training/train_paper_denoiser.py --out runs/rspect/denoiser \\
    --config Training/configs/paper-unconditional-denoiser.json --set latents=runs/rspect/latents
python Training/train_paper_denoiser.py --out runs/mine/denoiser \\
    --config Training/configs/paper-cxr-denoiser.json --set latents=runs/mine/latents films=runs/mine/cxr \\
    start=runs/rspect/denoiser autoencoder=/models/sd-vae-ft-mse distance_weights=/models/radimagenet \\
    classifier=runs/mine/classifier/pe_classifier
"""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from torch import nn

from xray2ctpa_core import config as configuration
from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import part
from xray2ctpa_core.data.latent_cases import (
    LatentCases,
    ScalingConfig,
    latent_scaling,
    read_latent_cases,
)
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, load_scaling, save_scaling
from xray2ctpa_core.diffusion.schedulers import papers_schedule
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.conditioned import ConditionedDenoiser, LabelEmbedding
from xray2ctpa_core.models.denoisers.lora import merged, with_lora
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.encoders import load_film_encoder
from xray2ctpa_core.pipelines.paper_run import CONDITIONS_FILE, Conditions, start_denoiser
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.losses.denoising import ObjectiveWeights, build_discriminator
from xray2ctpa_core.training.stages.labelled import balance
from xray2ctpa_core.training.stages.paper_denoiser import (
    AdversarialDenoiserStage,
    GuidanceDropout,
    Judges,
    PaperDenoiserStage,
)


@dataclass(frozen=True)
class Config(LoopConfig, ScalingConfig, ObjectiveWeights, GuidanceDropout, Conditions):
    """latents, films: folders of encode_latents.py and, of computed or real radiographs, preprocess_cxr.py;
    folds, fold, fold_seed: leave out the cases that a classifier's fold validates and tests on (folds=0
    trains on the data's training split, on all where it has none); start: an earlier run, or a folder of
    `xray2ctpa convert upstream-denoiser`; lora_rank: trains low-rank updates of ``start`` alone, 0
    everything; flip: probability that a case is mirrored.

    width, multipliers, heads, groups: of a denoiser without start (PaperDenoiser); embedding_dim: of an
    unconditional one. autoencoder: the codec,
    of the perceptual term; distance, distance_weights: losses.perceptual.perceptual_distance; classifier: a
    pe_classifier folder; pos_weight: of its term, 0 for the cases without PE over those with;
    discriminator_layers, discriminator_width, opponent_rate: of the adversarial term. The rest is as in the
    classes."""

    latents: str = "runs/paper/latents"
    films: str = ""
    folds: int = 0
    fold: int = 0
    fold_seed: int = 1
    start: str = ""
    lora_rank: int = 0
    flip: float = 0.0
    embedding_dim: int = 512
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    heads: int = 8
    groups: int = 8
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    classifier_weight: float = 0.0
    autoencoder: str = ""
    distance: str = "radimagenet"
    distance_weights: str = ""
    classifier: str = ""
    pos_weight: float = 0.0
    discriminator_layers: int = 4
    discriminator_width: int = 32
    opponent_rate: float = 1e-4
    batch_size: int = 2
    learning_rate: float = 1e-4
    ema_decay: float = 0.995


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser (with its scaling), scheduler, conditions.json; lora,
    label_embedding."""
    conditions = part(Conditions, config)
    latents = Path(config.latents)
    told = conditions.labels or config.classifier_weight > 0
    cases = read_latent_cases(latents, labelled=told)
    cases = training_cases(cases, config.folds, config.fold, config.fold_seed)
    encoder = None
    if conditions.conditioning == "film":
        encoder = load_film_encoder(config.encoder, config.encoder_weights)
    scaling = latent_scaling(config, latents)
    embedding_dim = encoder.embedding_dim if encoder else config.embedding_dim
    denoiser, labels = networks(config, len(scaling.shift), embedding_dim)
    films = Path(config.films) if encoder else None
    data = LatentCases(latents, cases, scaling, films, config.flip)
    trained = denoiser
    if config.lora_rank:
        trained = with_lora(denoiser, config.lora_rank)
    weights = part(ObjectiveWeights, config)
    model = ConditionedDenoiser(trained, labels)
    arguments = (
        model,
        encoder,
        papers_schedule(),
        scaling,
        weights,
        judges(config, scaling, tuple(data[(0, 0)]["latents"].shape[1:])),
        part(GuidanceDropout, config),
        config.pos_weight or balance(cases),
    )
    stage = (
        AdversarialDenoiserStage(*arguments, opponent_rate=config.opponent_rate)
        if weights.adversarial_weight
        else PaperDenoiserStage(*arguments)
    )
    train(stage, data, config, out, resume, Bar("papers' denoiser"))
    if config.lora_rank:
        save_network(trained, out / "lora")
        denoiser = merged(trained)
    if labels is not None:
        save_network(labels, out / "label_embedding")
    save_network(papers_schedule(), out / "scheduler")
    if PartialState().is_main_process:
        configuration.save(conditions, out / CONDITIONS_FILE)
    save_network(denoiser, out / "denoiser", functools.partial(save_scaling, scaling))


def networks(
    config: Config, channels: int, embedding_dim: int
) -> tuple[PaperDenoiser, LabelEmbedding | None]:
    """The denoiser that training starts from, and the labels' embedding.

    Args:
        config: settings.
        channels: C of the latents.
        embedding_dim: that the films' encoder gives.
    """
    labels = None
    if config.start:
        denoiser, labels = start_denoiser(Path(config.start))
    elif config.lora_rank:
        raise ConfigError("LoRA updates a trained denoiser, got no start.", "Set start, or lora_rank=0.")
    else:
        denoiser = PaperDenoiser(
            channels, embedding_dim, config.width, config.multipliers, config.heads, config.groups
        )
    found = (denoiser.config["latent_channels"], denoiser.config["embedding_dim"])
    if found != (channels, embedding_dim):
        raise ConfigError(
            f"Expected a start for {channels} latent channels and embeddings of {embedding_dim}, got one for "
            f"{found[0]} and {found[1]}.",
            "Take the same autoencoder and encoder in every stage.",
        )
    if not config.labels:
        return denoiser, None
    return denoiser, labels or LabelEmbedding(embedding_dim)


def judges(config: Config, scaling: LatentScaling, grid: tuple[int, ...]) -> Judges:
    """The networks of the terms that have a weight."""
    found: dict[str, nn.Module | LatentScaling] = {}
    if config.perceptual_weight:
        needs(config.autoencoder, "autoencoder", "perceptual_weight")
        found["codec"] = load_codec(config.autoencoder)
        weights = Path(config.distance_weights) if config.distance_weights else None
        found["distance"] = perceptual_distance(config.distance, weights)
    if config.classifier_weight:
        needs(config.classifier, "classifier", "classifier_weight")
        found["classifier"] = PEClassifier.from_pretrained(config.classifier)
        found["classifier_scaling"] = load_scaling(Path(config.classifier))
    if config.adversarial_weight:
        found["discriminator"] = build_discriminator(
            len(scaling.shift), grid, config.discriminator_layers, config.discriminator_width
        )
    return Judges(**found)  # type: ignore[arg-type]


def needs(value: str, key: str, weight: str) -> None:
    """Raises ConfigError where ``key`` is not set."""
    if not value:
        raise ConfigError(
            f"A {weight} above 0 needs {key}, got none.", f"Set {key} to its folder, or {weight}=0."
        )


if __name__ == "__main__":
    small = {"steps": 2, "batch_size": 1, "width": 8, "multipliers": [1, 2], "heads": 2}
    sys.exit(run_stage(__doc__, Config, run, small))
