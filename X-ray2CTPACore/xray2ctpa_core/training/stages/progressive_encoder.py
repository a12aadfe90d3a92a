"""Stage: XctDiff's progressive encoder, trained on its own (arXiv 2406.04679)."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.codecs.codebook import Quantised, codebook_usage
from xray2ctpa_core.models.encoders.progressive import ProgressiveEncoder
from xray2ctpa_core.training.settings.xctdiff import ProgressiveEncoderConfig


def build_progressive_encoder(config: ProgressiveEncoderConfig) -> ProgressiveEncoder:
    """The network that ``config`` describes; raises the errors of its class."""
    return ProgressiveEncoder(
        config.width,
        config.multipliers,
        config.blocks,
        config.depth,
        config.lifted_channels,
        config.inner_channels,
        config.latent_channels,
        config.codes,
        config.groups,
        middle_attention=config.width * config.multipliers[-1] % 32 == 0,
        homogeneous=config.homogeneous,
        quantised=config.quantised,
        progressive=config.progressive,
    )


class ProgressiveEncoderStage:
    """Squared error of the volume that is regressed from the radiograph, and the codebook's two losses.

    Batches hold "volume" (B, 1, P, P, P) in [-1, 1] and "image" (B, 1, P, P), rows from the top.

    Args:
        encoder: trained.
        config: weights.
    """

    def __init__(self, encoder: ProgressiveEncoder, config: ProgressiveEncoderConfig) -> None:
        self.module: nn.Module = encoder
        self._config = config

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage; a regressor draws nothing
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        quantised: Quantised
        output, quantised = module(batch["image"])
        error = functional.mse_loss(output.float(), batch["volume"])
        loss = (
            error
            + self._config.codebook_weight * quantised.codebook
            + self._config.commitment_weight * quantised.commitment
        )
        terms = {"mse": error, "codebook": quantised.codebook, "commitment": quantised.commitment}
        logged = {name: term.detach() for name, term in terms.items()}
        return loss, logged | codebook_usage(quantised.codes, self._config.codes)
