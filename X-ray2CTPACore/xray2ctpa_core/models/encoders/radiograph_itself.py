"""The radiograph itself as conditioning, for networks that read it pixel by pixel."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from xray2ctpa_core.models.protocols import Conditioning


class RadiographItself(ModelMixin, ConfigMixin):
    """An encoder without trained weights (models.protocols.RadiographEncoder).

    Attributes:
        gain: (), 1, factor of the grey values; it exists because diffusers writes no weights without a
        tensor.
    """

    gain: torch.Tensor

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(()))

    def condition(self, image: torch.Tensor) -> Conditioning:
        """(B, 1, P, P) -> ``spatial`` (B, 1, 1, P, P), rows from the top: one plane without depth."""
        return Conditioning(spatial=self.gain * image[:, :, None])


def radiograph_of(conditioning: Conditioning) -> torch.Tensor:
    """The radiograph (B, 1, rows, columns), rows from the foot upward, in a `RadiographItself` conditioning.

    Raises:
        ValueError: the conditioning of another encoder.
    """
    if conditioning.spatial is None or conditioning.spatial.shape[1:3] != (1, 1):
        raise ValueError("Expected the conditioning of RadiographItself, got another encoder's.")
    return conditioning.spatial[:, :, 0].flip(2)
