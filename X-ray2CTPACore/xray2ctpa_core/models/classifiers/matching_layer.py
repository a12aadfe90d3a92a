"""The last layer of a CTPA classifier alone, applied to generated embeddings (CMKD's matching layer)."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class MatchingLayer(ModelMixin, ConfigMixin):
    """CTPA embedding -> logit of PE.

    Args:
        embedding_dim: length of the embedding.
    """

    @register_to_config
    def __init__(self, embedding_dim: int = 512) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding_dim, 1)

    @classmethod
    def of(cls, head: nn.Linear) -> "MatchingLayer":
        """A matching layer with the weights of a classifier's head."""
        made = cls(head.in_features)
        made.linear.load_state_dict(head.state_dict())
        return made.eval()

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(..., embedding_dim) -> (..., 1) logits."""
        return self.linear(embedding)
