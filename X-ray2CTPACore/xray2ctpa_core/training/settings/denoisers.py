"""Settings of the steps that train encoders and denoisers."""

from typing import Literal

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    EncoderName,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    ScalingConfig,
    Share,
    Weight,
    Widths,
    Window,
    settings,
)
from xray2ctpa_core.training.settings.codecs import DiscriminatorSettings, FoldSettings, PerceptualSettings
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class LungLocatorSettings(LoopConfig):
    """The lung locator and input gate, on simulated radiographs."""

    class_weight: Weight = 0.5
    """Weight of the class loss beside the mask loss."""
    frontal_views: Positive = 24
    """Frontal directions from which the template is projected."""
    other_views: Positive = 8
    """Other directions from which it is projected."""
    steps: Positive = 900
    batch_size: Positive = 16
    learning_rate: Rate = 3e-3
    warmup: Count = 60
    ema_decay: Share = 0.99
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: Count = 1
    checkpoint_every: Positive = 200


@settings
class XrayEncoderSettings(LoopConfig):
    """A radiograph encoder: expected latents, an embedding, PE and, with an atlas, the map into it."""

    latents: Existing = ""
    """Folder of the step latents, with radiographs; studies without a map are left out of the map's loss."""
    start: ExistingOrNone = ""
    """Folder of an encoder of the same shape to start from: RUN/xray_encoder; empty for random weights."""
    channels: Widths = (24, 48, 80, 96, 128)
    """Widths of the 2D network."""
    lifted_channels: Positive = 16
    """Channels of the features lifted along the rays."""
    atlas_shape: tuple[Positive, ...] = ()
    """Voxels of the deformable atlas; empty for none: then no study needs a map."""
    map_weight: Weight = 4.0
    """Weight of the map's squared error."""
    pe_weight: Weight = 0.3
    """Weight of the cross-entropies of PE and of its signs."""
    dense_every: Positive = 8
    """The latents' loss is computed on every n-th case of a batch."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1 in the atlas."""
    steps: Positive = 2800
    learning_rate: Rate = 2e-3
    warmup: Count = 100
    weight_decay: Weight = 3e-2


@settings
class SpatialDenoiserSettings(LoopConfig):
    """A denoiser conditioned on an embedding and on features lifted along the rays."""

    network: str = "SpatialDenoiser"
    """Class in xray2ctpa_core.models that is trained; its constructor takes SpatialDenoiser's arguments."""
    latents: Existing = ""
    """Folder of the step latents, with radiographs."""
    xray_encoder: Existing = ""
    """Folder of the radiograph encoder, which is frozen."""
    conditioning: Literal["spatial", "global"] = "spatial"
    """Condition: features lifted along the rays and one vector, or the vector alone."""
    channels: Widths = (64, 80)
    """Widths of the 3D U-Net."""
    condition_dim: Positive = 128
    """Width of the vector that modulates its blocks."""
    feature_noise: Weight = 0.1
    """Deviation of the noise added to the lifted features."""
    map_weight: Weight = 1.0
    """Loss weight of the map's channels; the latents' channels have a mean weight of 1."""
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    """Noise schedule, as diffusers names it."""
    steps: Positive = 800
    batch_size: Positive = 4
    ema_decay: Share = 0.998


@settings
class ConsistencySettings(LoopConfig):
    """A few-step denoiser, by consistency distillation of a trained one."""

    latents: Existing = ""
    """Folder of the step latents, with radiographs."""
    xray_encoder: Existing = ""
    """Folder of the radiograph encoder."""
    teacher: Existing = ""
    """Folder of the denoiser that is distilled."""
    feature_noise: Weight = 0.1
    """Deviation of the noise added to the lifted features."""
    map_weight: Weight = 1.0
    """Loss weight of the map's channels."""
    lowest_temperature: Share = 0.3
    """Smallest factor of a trajectory's noisy latents; the largest is 1."""
    steps: Positive = 600
    batch_size: Positive = 4
    learning_rate: Rate = 3e-4
    ema_decay: Share = 0.99


@settings
class ObjectiveWeights:
    """Weights of the terms beside the L1 distance; 0 leaves out a term and its network."""

    perceptual_weight: Weight = 0.01
    """X-ray2CTPA's lambda 1."""
    adversarial_weight: Weight = 0.001
    """X-ray2CTPA's lambda 2."""
    classifier_weight: Weight = 0.08
    """X-ray2CTPA's lambda 3."""


@settings
class GuidanceDropout:
    """Dropout of the conditions, for classifier-free guidance."""

    radiograph_dropout: Share = 0.0
    """Probability that the radiograph is left out."""
    label_dropout: Share = 0.1
    """Probability that the label is left out, where labels=true."""


@settings
class PaperDenoiserSettings(
    LoopConfig,
    ScalingConfig,
    ObjectiveWeights,
    GuidanceDropout,
    PerceptualSettings,
    DiscriminatorSettings,
    FoldSettings,
):
    """X-ray2CTPA's denoiser: unconditional, conditioned on radiographs, or adapted to a modality by LoRA."""

    latents: Existing = ""
    """Folder of the step latents."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs, computed or real; empty takes those of the latents' index."""
    conditioning: Literal["unconditional", "radiograph"] = "unconditional"
    """Whether it is conditioned on a radiograph, computed or real."""
    encoder: EncoderName = "biomedclip"
    """The radiograph encoder, frozen."""
    encoder_weights: ExistingOrNone = ""
    """Folder of the encoder's weights, or owner/name@commit on the Hub; empty takes the published ones."""
    labels: bool = False
    """Whether it is also conditioned on the label."""
    start: ExistingOrNone = ""
    """Folder of an earlier run, or of `xray2ctpa convert`, to start from; empty for random weights."""
    lora_rank: Count = 0
    """Rank of low-rank updates of start's weights, which alone are trained; 0 trains all weights."""
    flip: Share = 0.0
    """Probability that a case is mirrored."""
    embedding_dim: Positive = 512
    """Length of the embedding, for an unconditional denoiser."""
    width: Positive = 32
    """Channels of the first level; start has its own."""
    multipliers: Widths = (1, 2, 4, 8)
    """Channels of each level, over width."""
    heads: Positive = 8
    """Heads of every attention."""
    groups: Positive = 8
    """Groups of the group normalisation."""
    perceptual_weight: Weight = 0.0
    adversarial_weight: Weight = 0.0
    classifier_weight: Weight = 0.0
    autoencoder: ExistingOrNone = ""
    """Folder of the codec, for the perceptual term."""
    distance: Literal["efficientnet", "radimagenet"] = "radimagenet"
    classifier: ExistingOrNone = ""
    """Folder of a pe_classifier, for the classifier's term."""
    pos_weight: Weight = 0.0
    """Weight of cases with PE in that term; 0 takes the ratio of cases without PE to those with."""
    batch_size: Positive = 2
    learning_rate: Rate = 1e-4
