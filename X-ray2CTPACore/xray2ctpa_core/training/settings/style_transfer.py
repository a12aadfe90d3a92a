"""Settings of the style transfer between real and computed radiographs."""

from typing import Literal

from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Share,
    Weight,
    settings,
)
from xray2ctpa_core.training.settings.codecs import DiscriminatorSettings
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class StyleTransferConfig:
    """CycleGAN with the weights and sizes of its paper."""

    width: Positive = 64
    """Channels of the generators' first convolution."""
    blocks: Positive = 9
    """Residual blocks of a generator."""
    cycle_weight: Weight = 10.0
    """Weight of the cycle term: translation there and back."""
    identity_weight: Weight = 0.5
    """Weight, over cycle_weight, of the identity term: a radiograph of the target style stays unchanged."""
    pool: Count = 50
    """Number of earlier translations that are kept for the discriminators."""


@settings
class StyleTransferSettings(LoopConfig, StyleTransferConfig, DiscriminatorSettings):
    """CycleGAN between real and computed radiographs with the same framing; none is mirrored."""

    real: Existing = ""
    """Folder of the step radiographs, run on real radiographs with input=frame."""
    computed: Existing = ""
    """Folder of computed radiographs, of the step drr or radiographs, with the same framing."""
    discriminator_width: Positive = 64
    opponent_rate: Rate = 2e-4
    steps: Positive = 100_000
    batch_size: Positive = 1
    learning_rate: Rate = 2e-4
    schedule: Literal["cosine", "constant"] = "constant"


@settings
class RestyleSettings:
    """Translation of radiographs to the other style; writes the files of the step radiographs."""

    radiographs: Existing = ""
    """Folder of the step radiographs that is translated."""
    translator: Existing = ""
    """Folder of one direction of the step style-transfer: RUN/to_computed or RUN/to_real."""
    lung_locator: ExistingOrNone = ""
    """Folder of the lung locator that finds the lungs before and after translation; empty takes the default
    bundle's."""
    least_dice: Share = 0.8
    """Least Dice overlap of a radiograph's lungs before and after translation."""
