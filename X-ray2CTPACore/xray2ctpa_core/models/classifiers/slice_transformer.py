"""PE from the features of a volume's axial slices: a transformer whose tokens are slices (CMKD's teacher)."""

import math
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.errors import InputError

ARCHITECTURES = ("small", "dinov2")


class SliceTransformer(ModelMixin, ConfigMixin):
    """Slice features -> class token -> embedding -> one logit.

    Args:
        features: F, number of features of a slice.
        architecture: "small", or "dinov2" for the blocks of DINOv2 (Oquab et al., 2023) without its patch
            projection, as in the paper: each slice replaces a patch.
        width, depth, heads: of the transformer; DINOv2's base has 768, 12 and 12.
        embedding_dim: length of the embedding, which the head reads and a prior generates.
        dropout: in training.
    """

    @register_to_config
    def __init__(
        self,
        features: int = 512,
        architecture: str = "small",
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        embedding_dim: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise InputError(f"Expected an architecture of {', '.join(ARCHITECTURES)}, got {architecture!r}.")
        if width % heads or width % 2:
            raise InputError(f"Expected an even width that {heads} heads divide, got {width}.")
        self.to_tokens = nn.Linear(features, width) if features != width else nn.Identity()
        self.class_token = nn.Parameter(0.02 * torch.randn(width))
        self.drop = nn.Dropout(dropout)
        self.layers, self.norm = _blocks(architecture, width, depth, heads, dropout)
        self.to_embedding = nn.Linear(width, embedding_dim)
        self.head = nn.Linear(embedding_dim, 1)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, S, F) -> (B, 1) logits of PE; slices whose features are all 0 are padding."""
        return self.head(self.embed(slices))

    def embed(self, slices: torch.Tensor) -> torch.Tensor:
        """(B, S, F) -> (B, embedding_dim), the input of the head."""
        return self.to_embedding(self.norm(self.block_outputs(slices)[-1])[:, 0])

    def block_outputs(self, slices: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1 + S, width) after each block, class token first.

        Raises:
            InputError: no slices, or features of another width.
        """
        if slices.ndim != 3 or slices.shape[2] != self.config["features"] or not slices.shape[1]:
            raise InputError(
                f"Expected slice features (B, S, {self.config['features']}), got {tuple(slices.shape)}."
            )
        padded = (slices == 0).all(2)
        tokens = self.to_tokens(slices) + _positions(slices.shape[1], self.class_token.shape[0]).to(slices)
        first = self.class_token.to(tokens).expand(len(slices), 1, -1)
        x = self.drop(torch.cat([first, tokens], 1))
        padded = torch.cat([padded.new_zeros(len(slices), 1), padded], 1)
        outputs = []
        for layer in self.layers:
            x = self._block(layer, x, padded)
            outputs.append(x)
        return outputs

    def _block(self, layer: nn.Module, x: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
        if self.config["architecture"] == "small":
            return layer(x, src_key_padding_mask=padded)
        if not padded.any():
            return _first(layer(x))
        # DINOv2's blocks do not support padding: each study's tokens are processed separately.
        whole = x.clone()
        for number, skipped in enumerate(padded):
            whole[number, ~skipped] = _first(layer(x[number, ~skipped][None]))[0]
        return whole


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _positions(count: int, width: int) -> torch.Tensor:
    """(count, width): sines and cosines of a slice's number (Vaswani et al., NeurIPS 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)


def _blocks(
    architecture: str, width: int, depth: int, heads: int, dropout: float
) -> tuple[nn.ModuleList, nn.Module]:
    if architecture == "small":
        made = (
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        return nn.ModuleList(made), nn.LayerNorm(width)
    try:
        from transformers import Dinov2Config, Dinov2Model
    except ImportError as error:
        raise InputError(
            f"DINOv2 needs transformers: {error}.", "Install xray2ctpa-core[training]."
        ) from error
    network = Dinov2Model(
        Dinov2Config(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, image_size=14,
            patch_size=14, hidden_dropout_prob=dropout,
        )
    )  # fmt: skip
    return network.encoder.layer, network.layernorm
