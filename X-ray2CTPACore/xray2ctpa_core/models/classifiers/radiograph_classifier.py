"""PE from the radiograph alone: an encoder and a linear layer (X-ray2CTPA, Table 1, rows "CXR")."""

import torch
from torch import nn

from xray2ctpa_core.models.encoders.published import PublishedEncoder


class RadiographClassifier(nn.Module):
    """A radiograph -> one logit.

    Args:
        encoder: trained together with the linear layer, unless its parameters are frozen.
        dropout: before the linear layer.
    """

    def __init__(self, encoder: PublishedEncoder, dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(encoder.embedding_dim, 1))

    def forward(self, radiograph: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P), normalised -> (B, 1) logits of PE."""
        return self.head(self.encoder(radiograph))
