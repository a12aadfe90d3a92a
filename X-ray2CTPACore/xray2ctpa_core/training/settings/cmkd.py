"""Settings of CMKD (MICCAI 2025) and of the methods it is compared with."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.constants import DEFAULT_BUNDLE, PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    EncoderName,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Share,
    Weight,
    Window,
    settings,
)
from xray2ctpa_core.training.settings.classifiers import EncoderSettings, LabelledConfig


@settings
class SliceFeaturesSettings(EncoderSettings):
    """Features of the axial slices of preprocessed CTPAs by any 2D encoder, as input of the CMKD teacher."""

    encoder: EncoderName | Literal["efficientnet-lite0", "filling-defects"] = "small"  # type: ignore[assignment]
    """The encoder; efficientnet-lite0 was trained on photographs, filling-defects has no weights."""
    ctpa: Existing = ""
    """Folder of the step ctpa."""
    window: Window = PAPER_HU_WINDOW
    """HU window that becomes -1 to 1."""
    every: Positive = 1
    """Every n-th slice is used."""
    batch_size: Positive = 32
    """Slices in a batch."""
    seed: int = 1
    """Seed of an encoder without weights."""


@settings
class DistillationConfig:
    """Settings of distillation."""

    task_share: Share = 0.3
    """1 - a of Hinton's (1 - a) CE + a T^2 KL; CMKD gives neither a nor T, usual are a of 0.5 to 0.9."""
    temperature: Rate = 3.0
    """T of Hinton; usual are 2 to 4."""
    proto_temperature: Rate = 10.0
    """T of ProtoKD's divergence, in the prior too."""
    proto_divergence: Weight = 10.0
    """Weight of ProtoKD's divergence beside the task."""
    proto_weight: Weight = 0.1
    """Weight of ProtoKD's prototypes."""
    block_weight: Weight = 1.0
    """Weight of AFT-KD's blocks, summed over the stages."""
    contrastive_weight: Weight = 1.0
    """Weight of either contrastive loss."""
    margin: Weight = 1.0
    """m of Hadsell's loss."""


@settings
class PriorLossConfig:
    """Settings of the prior's loss."""

    extra_loss: Literal["none", "bce", "aftkd", "protokd"] = "bce"
    """Term beside the squared error (CMKD, Table 2)."""
    extra_weight: Share = 0.2
    """l of (1 - l) L2 + l extra; 0.2 in the release, no value in the paper."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that the radiograph's embedding is left out and, independently, that the noisy one is."""
    proto_temperature: Rate = 10.0


@settings
class PriorConfig:
    """The prior's size, noise and sampling."""

    prior_preset: Literal["released", "small"] = "small"
    """Size of the prior."""
    noise_levels: Positive = 64
    """Levels of the cosine schedule; the release has 64."""
    embedding_scaling: Literal["standardised", "released"] = "standardised"
    """Both embeddings to mean 0 and deviation 1 in each dimension; or the release's min-max of the CTPA's."""
    sampler: Literal["ddpm", "ddim", "analytic"] = "ddpm"
    """Sampler; ddpm in the release."""
    sample_steps: Count = 0
    """Steps of the sampler; 0 takes every noise level."""
    draws: Positive = 4
    """Samples of each radiograph; 1 in the release's evaluation."""
    choice: Literal["mean", "most-similar"] = "mean"
    """The mean of the draws' probabilities, or the draw most similar to the radiograph's embedding."""
    guidance_scale: float = 1.0
    """Scale of classifier-free guidance; 1 is none."""


@settings
class CMKDSettings(LabelledConfig, EncoderSettings, DistillationConfig, PriorLossConfig, PriorConfig):
    """PE from a radiograph, trained with CTPA: CMKD's teacher, student and prior, and its comparison."""

    method: Literal[
        "ctpa", "cxr", "hinton", "protokd", "aftkd", "chopra", "margin", "discom", "prior"
    ] = "cxr"  # fmt: skip
    """ctpa is the teacher, cxr the classifier without a teacher, chopra and margin are contrastive."""
    features: Existing = ""
    """Folder of the step slice-features, or a table features.csv with features from elsewhere."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; every method but ctpa needs it."""
    input: Literal["whole", "frame"] = "whole"
    """The same key of the step radiographs."""
    teacher: ExistingOrNone = ""
    """Folder of a step with method=ctpa, for all methods but ctpa, cxr and discom."""
    student: ExistingOrNone = ""
    """Folder of a step with method=cxr, for the prior."""
    start: ExistingOrNone = ""
    """Folder of an earlier step of the same method, whose weights it starts from; empty for random ones."""
    flip: Share = 0.5
    """Probability that a radiograph is mirrored."""
    architecture: Literal["small", "dinov2"] = "small"
    """Blocks of the slice transformer; dinov2 has its blocks, as wide as the features."""
    width: Positive = 128
    """Width of the small slice transformer."""
    depth: Positive = 2
    """Blocks of the slice transformer."""
    heads: Positive = 4
    """Heads of every attention."""
    embedding_dim: Positive = 512
    """Length of both embeddings."""
    dropout: Share = 0.2
    """Dropout before the heads."""


@settings
class SecondOpinionSettings:
    """A bundle with a trained prior, whose results then have a second opinion on PE."""

    bundle: str = DEFAULT_BUNDLE
    """Name, folder or Hub id of the bundle."""
    opinion: Existing = ""
    """Folder second_opinion of a fold of a step with method=prior."""
