"""Settings of the style transfer between real and computed radiographs."""

from typing import Literal

from xray2ctpa_core.data.settings import Count, Existing, Positive, Rate, Share, Weight, settings
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class StyleTransferConfig:
    """CycleGAN with the weights and sizes of its reference."""

    width: Positive = 64
    """Channels of the generators' first convolution."""
    blocks: Positive = 9
    """Residual blocks of a generator."""
    cycle_weight: Weight = 10.0
    """Weight of the way there and back."""
    identity_weight: Weight = 0.5
    """Weight, over cycle_weight, of leaving a radiograph of the wanted style as it is."""
    pool: Count = 50
    """Earlier translations that the discriminators also see."""


@settings
class StyleTransferSettings(LoopConfig, StyleTransferConfig):
    """CycleGAN between real and computed radiographs, framed alike; none is mirrored."""

    real: Existing = ""
    """Folder of the step radiographs on real ones, framed by the lungs."""
    computed: Existing = ""
    """Folder of the step drr or radiographs on computed ones, framed alike."""
    discriminator_layers: Positive = 4
    """Layers of the discriminators: 4 judge patches of 70 pixels."""
    discriminator_width: Positive = 64
    """Channels of their first layer."""
    opponent_rate: Rate = 2e-4
    """Their learning rate."""
    steps: Positive = 100_000
    batch_size: Positive = 1
    learning_rate: Rate = 2e-4
    schedule: Literal["cosine", "constant"] = "constant"


@settings
class RestyleSettings:
    """Radiographs in the other style, in the form of the step radiographs."""

    radiographs: Existing = ""
    """Folder of the step radiographs that is translated."""
    translator: Existing = ""
    """Folder of one direction of the step style-transfer: RUN/to_computed or RUN/to_real."""
    lung_locator: Existing = ""
    """Folder of the lung locator, whose lungs before and after are compared."""
    least_dice: Share = 0.8
    """Least overlap of each radiograph's lungs before and after."""
