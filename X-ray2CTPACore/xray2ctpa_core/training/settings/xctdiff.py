"""Settings of the steps that train XctDiff (arXiv 2406.04679) and the regressors it is compared with."""

from typing import Literal

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Share,
    Weight,
    Widths,
    Window,
    settings,
)
from xray2ctpa_core.training.settings.codecs import CodebookConfig, DiscriminatorSettings, FoldSettings
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class PairSettings(FoldSettings):
    """Studies with volume and radiograph."""

    latents: Existing = ""
    """Folder of the step latents, whose index lists volumes and radiographs."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty takes the index's own."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    flip: Share = 0.0
    """Probability that a study is mirrored left to right; the heart then lies on the other side."""


@settings
class ProgressiveEncoderConfig(CodebookConfig):
    """Architecture and loss weights of the progressive encoder, which has its own codebook."""

    width: Positive = 128
    """Channels of the first 2D level."""
    multipliers: Widths = (1, 2, 4)
    """Channels of the 2D levels, over width; each level but the last halves the radiograph."""
    blocks: Positive = 2
    """Residual blocks of each level."""
    depth: Positive = 32
    """Cells along the lifted axis, and along each side of the radiograph at the last level."""
    lifted_channels: Positive = 16
    """Channels of the 3D features; the last level has lifted_channels * depth."""
    inner_channels: Positive = 16
    """Channels after the 3D convolutions."""
    groups: Positive = 32
    """Groups of the group normalisation in 2D."""
    progressive: bool = True
    """Whether MLP along the depth and 3D convolutions follow the 2D levels; without them features are the
    same at every depth (Table 3)."""
    quantised: bool = True
    """Whether the condition is quantised (paper) or not (release)."""


@settings
class ProgressiveEncoderSettings(LoopConfig, ProgressiveEncoderConfig, PairSettings):
    """XctDiff's progressive encoder, trained on its own as a regressor of the volume."""

    start: ExistingOrNone = ""
    """Folder of an encoder of the same shape to start from: RUN/encoder; empty for random weights."""
    steps: Positive = 50_000
    batch_size: Positive = 16
    learning_rate: Rate = 1e-4
    schedule: Literal["cosine", "constant"] = "constant"
    weight_decay: Weight = 1e-5


@settings
class PriorDenoiserConfig:
    """Architecture and objective of the prior-guided denoiser; its planes are axial as in the paper (sagittal
    in the release, by the order of its axes)."""

    width: Positive = 64
    """Channels of the first level."""
    multipliers: Widths = (1, 2, 4, 8)
    """Channels of the levels, over width."""
    heads: Positive = 8
    """Heads of every attention."""
    groups: Positive = 8
    """Groups of the group normalisation."""
    cross_attention: bool = True
    """Whether the condition comes in by attention (paper) or concatenated (release)."""
    error: Literal["l1", "l2"] = "l2"
    """Error of the predicted noise: l2 in the paper, l1 in the release."""
    latent_factor: Rate = 0.6
    """Factor of the latents before noise is added; the condition is not scaled."""


@settings
class PriorDenoiserSettings(LoopConfig, PriorDenoiserConfig, FoldSettings):
    """XctDiff's denoiser of the codec's latents, guided by a frozen radiograph encoder."""

    latents: Existing = ""
    """Folder of the step latents, with radiographs."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs; empty takes the index's own."""
    encoder: Existing = ""
    """Folder of the radiograph encoder: RUN/encoder of the step progressive-encoder."""
    codec: Existing = ""
    """Folder of the codec that encoded the latents; a copy is kept beside the denoiser."""
    steps: Positive = 100_000
    batch_size: Positive = 8
    learning_rate: Rate = 1e-4
    schedule: Literal["cosine", "constant"] = "constant"
    ema_decay: Share = 0.9999
    warmup: Count = 0


@settings
class RegressorConfig:
    """Network and loss weights of a regressor; the defaults are X2CT-GAN's."""

    network: Literal["x2ct", "recon-net"] = "x2ct"
    """X2CT (Ying et al., CVPR 2019) or ReconNet (Shen et al., 2019)."""
    pixels: Positive = 128
    """Pixels along a side of the radiograph, and voxels along an edge of the volume."""
    width: Positive = 64
    """Channels of the first level: 64 for X2CT, 256 for ReconNet, 64 for one with 1/16 of its parameters."""
    blocks: Widths = (6, 12, 24, 16, 6)
    """Layers of X2CT's dense blocks."""
    decoder: Widths = (256, 128, 64, 32, 16, 16)
    """Channels of X2CT's decoder, from the coarsest resolution; one more entry than blocks."""
    voxel_weight: Weight = 10.0
    """Weight of the squared error of voxels in 0 to 1."""
    projection_weight: Weight = 10.0
    """Weight of the absolute error of the means along each axis; 0 in X2CT-CNN and ReconNet."""
    adversarial_weight: Weight = 0.1
    """Weight of the adversarial term; 0 (X2CT-CNN) leaves out term and discriminator."""


@settings
class RegressorSettings(LoopConfig, RegressorConfig, PairSettings, DiscriminatorSettings):
    """A regressor of the volume from the radiograph; runs as a denoiser of one step."""

    discriminator_width: Positive = 64
    opponent_rate: Rate = 2e-4
    steps: Positive = 22_900
    batch_size: Positive = 4
    learning_rate: Rate = 2e-4
