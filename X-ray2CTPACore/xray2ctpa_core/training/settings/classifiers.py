"""Settings of the steps that train classifiers."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import (
    EncoderName,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    ScalingConfig,
    Shape,
    Share,
    Weight,
    Widths,
    Window,
    settings,
)
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class LabelledConfig(LoopConfig):
    """Settings common to classifiers that are trained on labels."""

    name: str = ""
    """Name of the arm in the tables; empty takes the folder's."""
    dataset: str = ""
    """Data set of the arm."""
    folds: Annotated[int, Field(ge=0)] = 0
    """Folds of stratified cross-validation over patients; 0 takes the data's own split."""
    fold: Annotated[int, Field(ge=-1)] = -1
    """The one fold to train; -1 trains all of them, one after another."""
    fold_seed: int = 1
    """Seed of the folds."""
    pos_weight: Weight = 0.0
    """Weight of the cases with PE; 0 takes the ratio of training cases without PE to those with."""
    learning_rate: Rate = 1e-4


@settings
class LatentClassifierSettings(LabelledConfig, ScalingConfig):
    """X-ray2CTPA's latent PE classifier: a 3D DenseNet-121."""

    latents: Existing = ""
    """Folder of the step latents or generate."""
    start: ExistingOrNone = ""
    """Folder of a pe_classifier to start from, with its scaling; empty for random weights."""
    flip: Share = 0.5
    """Probability that latents are mirrored."""
    init_features: Positive = 64
    """Channels after the first convolution."""
    growth_rate: Positive = 32
    """Channels that each layer adds."""
    block_config: Widths = (6, 12, 24, 16)
    """Layers of each block."""
    dropout: Share = 0.2
    """Dropout of each layer."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation."""
    first_stride: Shape = (1, 2, 2)
    """Stride of the first convolution."""
    pool: bool = True
    """Whether pooling follows the first convolution."""
    ema_decay: Share = 0.0


@settings
class EncoderSettings:
    """The encoder of a classifier."""

    encoder: EncoderName = "small"
    """The encoder; without weights the small one starts from random ones, own is a bundle's xray_encoder."""
    encoder_weights: ExistingOrNone = ""
    """Folder of its weights, or owner/name@commit on the Hub; empty takes the published ones."""
    small_dim: Positive = 512
    """Length of the small encoder's vector."""
    small_features: Positive = 16
    """Channels after its first convolution."""
    small_growth: Positive = 12
    """Channels that each of its layers adds."""
    small_blocks: Widths = (3, 3, 3, 3)
    """Layers of each of its blocks."""
    frozen_encoder: bool = False
    """Whether the encoder is frozen."""


@settings
class EncodedConfig(LabelledConfig, EncoderSettings):
    """Settings common to classifiers on an encoder of images."""

    dropout: Share = 0.2
    """Dropout before the last layer."""
    start: ExistingOrNone = ""
    """Folder of an earlier run with the same encoder; empty starts anew."""


@settings
class CxrClassifierSettings(EncodedConfig):
    """PE from the radiograph alone: the baseline of the generated CTPA (X-ray2CTPA, Table 1)."""

    latents: Existing = ""
    """Folder whose index lists the cases; all arms share it, so that they have the same cases."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty takes those of the latents' index."""
    flip: Share = 0.5
    """Probability that a radiograph is mirrored."""


@settings
class SliceClassifierSettings(EncodedConfig):
    """PE from full volumes as in INSPECT: a 2D network on every slice, an LSTM over the slices."""

    latents: Existing = ""
    """Folder of the step latents or generate, whose index lists the volumes."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window that becomes -1 to 1."""
    hidden: Positive = 128
    """Features of the LSTM in each direction."""
    batch_size: Positive = 2
