"""Stage: the X-ray encoder, taught the expected latents given a radiograph, and PE."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.networks.xray_encoder import XrayEncoder, XrayFeatures

#: Latents are averaged over cells of this size (D, H, W) for the embedding's own task.
_COARSE = (8, 4, 4)


class EncoderWithCoarseHead(nn.Module):
    """The encoder, and a linear reading of coarse latents off its embedding (for training alone).

    Args:
        encoder: the module to train.
        latent_channels: how many lifted channels are the expected latents.
    """

    def __init__(self, encoder: XrayEncoder, latent_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        grid = [n // c for n, c in zip(encoder.config["latent_grid"], _COARSE, strict=True)]
        self.shape = (latent_channels, *grid)
        self.head = nn.Linear(encoder.config["embedding_dim"], latent_channels * grid[0] * grid[1] * grid[2])

    def forward(self, image: torch.Tensor) -> tuple[XrayFeatures, torch.Tensor]:
        """The features, and (B, C, D/8, H/4, W/4) coarse latents read off the embedding."""
        features = self.encoder(image)
        return features, self.head(features.embedding).unflatten(1, self.shape)


class XrayEncoderStage:
    """Squared errors, whose minimum is the expectation given the radiograph, and PE's cross-entropy.

    The lifted features learn the latents, the embedding learns the latents' coarse averages and PE.

    Args:
        encoder: the module.
        pe_weight: weight of the cross-entropy.
        channel_weights: (1, C, 1, 1, 1) weight of each latent channel.
    """

    def __init__(self, encoder: XrayEncoder, pe_weight: float, channel_weights: torch.Tensor) -> None:
        self._latent_channels = channel_weights.shape[1]
        self.module: nn.Module = EncoderWithCoarseHead(encoder, self._latent_channels)
        self._channel_weights = channel_weights
        self._pe_weight = pe_weight

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        features, coarse = module(batch["image"])
        weights = self._channel_weights.to(latents)
        expected = features.lifted[:, : self._latent_channels].float()
        mse = (weights * (expected - latents) ** 2).mean()
        coarse_mse = (weights * (coarse.float() - functional.avg_pool3d(latents, _COARSE)) ** 2).mean()
        pe = functional.binary_cross_entropy_with_logits(features.pe_logit.float(), batch["label"])
        terms = {"mse": mse, "coarse_mse": coarse_mse, "pe": pe}
        return mse + coarse_mse + self._pe_weight * pe, {name: term.detach() for name, term in terms.items()}
