"""PE from the volume's slices: a 2D network on each, an LSTM over them (INSPECT; Huang et al., NeurIPS
2023)."""

import torch
from torch import nn

from xray2ctpa_core.models.codecs.slices import volumes_to_slices
from xray2ctpa_core.models.encoders.published import PublishedEncoder


class SliceClassifier(nn.Module):
    """A volume -> one logit: an embedding of every axial slice, a bidirectional LSTM along the patient, and a
    linear layer on maximum and mean of its states.

    Args:
        encoder: of a slice, which has the form of a radiograph.
        hidden: features of the LSTM in each direction.
        dropout: before the last layer.
    """

    def __init__(self, encoder: PublishedEncoder, hidden: int = 128, dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = encoder
        self.sequence = nn.LSTM(encoder.embedding_dim, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * hidden, 1))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, 1, D, H, W) in [-1, 1] -> (B, 1) logits of PE."""
        embeddings = self.encoder(volumes_to_slices(volume)).unflatten(0, (len(volume), -1))
        states, _ = self.sequence(embeddings)
        return self.head(torch.cat([states.amax(1), states.mean(1)], 1))
