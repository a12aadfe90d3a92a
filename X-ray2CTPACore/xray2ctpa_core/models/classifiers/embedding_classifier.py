"""PE from the radiograph through an embedding as long as the CTPA's: CMKD's student, whose embedding is the
input of its prior."""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.models.encoders.published import PublishedEncoder


class EmbeddingClassifier(ModelMixin, ConfigMixin):
    """A radiograph -> embedding -> one logit.

    Args:
        encoder_config: constructor arguments of its PublishedEncoder (RadImageNet, BiomedCLIP, DINOv2,
            XrayEncoder, a small one).
        embedding_dim: length of the embedding.
        dropout: before the head.
    """

    @register_to_config
    def __init__(
        self, encoder_config: dict[str, Any] | None = None, embedding_dim: int = 512, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.encoder = PublishedEncoder(**(encoder_config or {}))
        self.to_embedding = nn.Linear(self.encoder.embedding_dim, embedding_dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(embedding_dim, 1)

    @classmethod
    def on(
        cls, encoder: PublishedEncoder, embedding_dim: int = 512, dropout: float = 0.2
    ) -> "EmbeddingClassifier":
        """A new classifier with the given encoder, which becomes part of it."""
        arguments = {key: value for key, value in encoder.config.items() if not key.startswith("_")}
        made = cls(arguments, embedding_dim, dropout)
        made.encoder = encoder
        return made

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P), preprocessed for the encoder -> (B, embedding_dim)."""
        return self.to_embedding(self.encoder(image))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 1) logits of PE."""
        return self.classify(self.embed(image))

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, embedding_dim) -> (B, 1) logits of PE."""
        return self.head(self.drop(embedding))
