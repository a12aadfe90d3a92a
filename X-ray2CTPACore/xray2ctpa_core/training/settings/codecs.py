"""Settings of the steps that train codecs."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Shape,
    Weight,
    Widths,
    Window,
    settings,
)
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class AutoencoderConfig:
    """Architecture and loss weights of the 2D autoencoder."""

    fold: Positive = 4
    """Factor of the pixel unshuffle that slices undergo first."""
    channels: Widths = (128,)
    """Widths of the levels; each level but the last halves the slice."""
    latent_channels: Positive = 6
    """Channels of the latents."""
    kl_weight: Weight = 1e-4
    """Weight of the Kullback-Leibler term, per latent element."""
    edge_weight: Weight = 1.0
    """Weight of the L1 distance of finite differences, which keeps the edges of vessels."""
    perceptual_weight: Weight = 0.0
    """Weight of the EfficientNet-Lite0 perceptual distance; 0 leaves it out."""


@settings
class PerceptualSettings:
    """The network of a perceptual distance."""

    distance: Literal["efficientnet", "radimagenet"] = "efficientnet"
    """Features of the perceptual distance; efficientnet comes with the installation."""
    distance_weights: ExistingOrNone = ""
    """Folder of RadImageNet's ResNet50.pt, for distance=radimagenet."""


@settings
class AutoencoderSettings(LoopConfig, AutoencoderConfig):
    """The 2D KL autoencoder on axial slices."""

    studies: Existing = ""
    """Folder of the step ctpa, or a study index; where it has splits, its training studies are used."""
    patients: Count = 160
    """Studies to take, from the first; 0 takes all."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    steps: Positive = 300
    batch_size: Positive = 16
    learning_rate: Rate = 5e-4


@settings
class CodebookConfig:
    """A codebook and the weights of its losses (XctDiff, arXiv 2406.04679)."""

    latent_channels: Positive = 8
    """Channels of a code."""
    codes: Positive = 8192
    """Vectors in the codebook."""
    homogeneous: bool = True
    """Whether vectors and codes are z-scored, in the look-up and in the losses."""
    codebook_weight: Weight = 1.0
    """Weight of the codebook loss, which moves the codes; 0.25 in XctDiff's release."""
    commitment_weight: Weight = 1.0
    """Weight of the commitment loss, which moves the encoder."""


@settings
class VQGANConfig(CodebookConfig):
    """Architecture and loss weights of the 3D VQGAN.

    The objective is L1 + LPIPS + codebook + adversarial (Esser et al., eq. 4 to 7), with XctDiff's hinge in
    3D and 2D. XctDiff's paper gives no weights; its release has 1 for all. Slices are axial; in the
    release they are sagittal, by the order of its axes.
    """

    channels: Widths = (32, 64, 128)
    """Widths of the levels."""
    depth_strides: tuple[Positive, ...] = (2, 2)
    """Factor of the depth from each level to the next; height and width are halved."""
    blocks: Positive = 2
    """Residual blocks of each level."""
    groups: Positive = 8
    """Groups of the group normalisation."""
    inner_channels: Positive = 4
    """Channels between the networks and the projections to and from the latents."""
    super_resolution: bool = True
    """Whether the decoder ends in a super-resolution head."""
    perceptual_weight: Weight = 1.0
    """Weight of the perceptual distance of axial slices; 0 leaves out term and network."""
    perceptual_slices: Positive = 4
    """Slices for each crop that distance and 2D critic judge, drawn from all slices of the batch."""
    adversarial_weight: Weight = 1.0
    """Weight of the adversarial term; 0 leaves out term and critics."""
    adaptive: bool = True
    """Whether that weight is multiplied by the ratio of the gradients at the decoder's last layer."""
    adversarial_start: Count = 10_000
    """Batches before the term enters the loss; the critics are trained from the first batch. XctDiff's
    release has 100,000, which its 80,000 steps never reach."""


@settings
class DiscriminatorSettings:
    """The opponent of an adversarial term."""

    discriminator_layers: Positive = 4
    """Layers of the discriminator; 4 layers judge patches of 70 pixels."""
    discriminator_width: Positive = 32
    """Channels of its first layer."""
    opponent_rate: Rate = 1e-4
    """Its learning rate."""


@settings
class VQGANSettings(LoopConfig, VQGANConfig, PerceptualSettings, DiscriminatorSettings):
    """The 3D VQGAN on crops of volumes, a codec in place of the 2D autoencoder."""

    studies: Existing = ""
    """Folder of the step ctpa, or a study index; where it has splits, its training studies are used."""
    patients: Count = 0
    """Studies to take, from the first; 0 takes all."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    crop: Shape = (64, 128, 128)
    """Depth, height and width of the crops, in voxels."""
    batch_size: Positive = 2
    learning_rate: Rate = 2e-4


@settings
class TinyDecoderConfig:
    """Architecture and loss weights of the tiny decoder."""

    width: Positive = 64
    """Channels of every convolution."""
    blocks: Widths = (3, 3)
    """Residual blocks of each level."""
    teacher_weight: Weight = 1.0
    """Weight of the L1 distance to the autoencoder's decoding of the same latents."""
    perceptual_weight: Weight = 0.0
    """Weight of the perceptual distance to the true slice; 0 leaves it out."""


@settings
class FoldSettings:
    """The studies that a generator is trained on."""

    folds: Annotated[int, Field(ge=0)] = 0
    """Folds of cross-validation; 0 takes the training split, or all studies where there is none."""
    fold: Count = 0
    """The fold whose validation and test studies are left out."""
    fold_seed: int = 1
    """Seed of the folds."""


@settings
class TinyDecoderSettings(LoopConfig, TinyDecoderConfig, PerceptualSettings, FoldSettings):
    """A tiny decoder for an autoencoder's latents."""

    latents: Existing = ""
    """Folder of the step latents, whose index lists the volumes."""
    autoencoder: Existing = ""
    """Folder of the AutoencoderKL that encoded them."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window to which the volumes were clipped."""
    slices: Positive = 8
    """Slices of each volume in a batch."""
    batch_size: Positive = 2
