"""Trains the papers' denoiser: unconditional, conditioned on radiographs, or adapted by LoRA."""

import functools
from pathlib import Path

from accelerate import PartialState
from torch import nn

from xray2ctpa_core import config as configuration
from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import part
from xray2ctpa_core.data.latent_cases import (
    read_latent_cases,
)
from xray2ctpa_core.data.latents import latent_scaling
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling, load_scaling, save_scaling
from xray2ctpa_core.diffusion.schedulers import papers_schedule
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.conditioned import ConditionedDenoiser, LabelEmbedding
from xray2ctpa_core.models.denoisers.lora import merged, with_lora
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.pipelines.codecs import load_codec
from xray2ctpa_core.pipelines.encoders import load_published_encoder
from xray2ctpa_core.pipelines.paper_run import CONDITIONS_FILE, Conditions, start_denoiser
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.losses.denoising import build_discriminator
from xray2ctpa_core.training.settings.denoisers import (
    GuidanceDropout,
    ObjectiveWeights,
    PaperDenoiserSettings,
)
from xray2ctpa_core.training.stages.labelled import balance
from xray2ctpa_core.training.stages.paper_denoiser import (
    AdversarialDenoiserStage,
    Judges,
    PaperDenoiserStage,
)


def run(config: PaperDenoiserSettings, out: Path) -> None:
    """Trains and saves ``out``/denoiser (with its scaling), scheduler, conditions.json; lora,
    label_embedding."""
    conditions = part(Conditions, config)
    latents = Path(config.latents)
    told = conditions.labels or config.classifier_weight > 0
    cases = read_latent_cases(latents, labelled=told)
    cases = training_cases(cases, config.folds, config.fold, config.fold_seed)
    encoder = None
    if conditions.conditioning == "radiograph":
        encoder = load_published_encoder(config.encoder, config.encoder_weights)
    scaling = latent_scaling(config, latents)
    embedding_dim = encoder.embedding_dim if encoder else config.embedding_dim
    denoiser, labels = networks(config, len(scaling.shift), embedding_dim)
    radiographs = Path(config.radiographs) if encoder and config.radiographs else None
    known = all(case.label is not None for case in cases)
    parts = ("latents", *(["label"] if known else []), *(["image"] if encoder else []))
    data = StudyData(cases, parts, scaling, radiographs=radiographs, flip=config.flip)
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
    train(stage, data, config, out, Bar("papers' denoiser"))
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
    config: PaperDenoiserSettings, channels: int, embedding_dim: int
) -> tuple[PaperDenoiser, LabelEmbedding | None]:
    """The initial denoiser, and the embedding of labels.

    Args:
        config: settings.
        channels: C of the latents.
        embedding_dim: length of the radiograph encoder's embedding.
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


def judges(config: PaperDenoiserSettings, scaling: LatentScaling, grid: tuple[int, ...]) -> Judges:
    """The networks of the terms with a weight above 0."""
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
