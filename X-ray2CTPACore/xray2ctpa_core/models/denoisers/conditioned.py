"""The papers' denoiser with conditions that may be absent: radiograph and label, for classifier-free
guidance."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser

#: Label of a case that is generated without a label.
NO_LABEL = 2


class LabelEmbedding(ModelMixin, ConfigMixin):
    """Label -> vector that is added to the radiograph's embedding; zero before training, and always zero for
    NO_LABEL.

    Args:
        embedding_dim: as the denoiser's.
    """

    @register_to_config
    def __init__(self, embedding_dim: int = 512) -> None:
        super().__init__()
        self.table = nn.Embedding(NO_LABEL + 1, embedding_dim, padding_idx=NO_LABEL)
        nn.init.zeros_(self.table.weight)

    def forward(self, label: torch.Tensor) -> torch.Tensor:
        """(B,) of 0, 1, NO_LABEL -> (B, embedding_dim)."""
        return self.table(label)


class ConditionedDenoiser(nn.Module):
    """The denoiser, conditioned on a radiograph or, without one, on its learned null embedding (Ho and
    Salimans, Classifier-free diffusion guidance, 2022), and on a label or none.

    Args:
        denoiser: the papers'. Its null embedding, which the release never trains, stands for "no radiograph".
        labels: of the same embedding_dim; None for a denoiser without labels.
    """

    def __init__(self, denoiser: PaperDenoiser, labels: LabelEmbedding | None = None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.labels = labels

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        embedding: torch.Tensor | None,
        keep: torch.Tensor | None = None,
        label: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Args:
            sample: (B, C, D, H, W), noisy.
            timestep: (B,).
            embedding: (B, embedding_dim) of the radiographs; None if no case has one.
            keep: (B,) bool, which cases are conditioned on their radiograph; None for all.
            label: (B,) of 0, 1, NO_LABEL; None if no case has one.

        Returns:
            As ``sample``: the predicted noise.
        """
        conditioning = self.denoiser.null_cond_emb.expand(len(sample), -1)
        if embedding is not None:
            told = embedding.to(conditioning.dtype)
            conditioning = told if keep is None else torch.where(keep[:, None], told, conditioning)
        if self.labels is not None and label is not None:
            conditioning = conditioning + self.labels(label)
        return self.denoiser(sample, timestep, conditioning)


def guided(
    model: ConditionedDenoiser,
    embedding: torch.Tensor | None,
    label: torch.Tensor | None,
    scale: float,
    label_scale: float,
    sample: torch.Tensor,
    timestep: torch.Tensor,
) -> torch.Tensor:
    """Noise under classifier-free guidance by radiograph and label (Brooks et al., CVPR 2023, eq. 3).

    With scale = label_scale = 1 this is the conditional prediction, from one call of the model; with
    label_scale = 0 the label is not used. Predictions with a weight of 0, or equal to another one, are not
    computed.
    """
    if label_scale == 0:
        label, label_scale = None, 1.0
    full = model(sample, timestep, embedding, None, label)
    if scale == label_scale == 1 or (embedding is None and label is None):
        return full
    radiograph = full if label is None else model(sample, timestep, embedding)
    if scale == 1 or embedding is None:
        return radiograph + label_scale * (full - radiograph)
    nothing = model(sample, timestep, None)
    return nothing + scale * (radiograph - nothing) + label_scale * (full - radiograph)
