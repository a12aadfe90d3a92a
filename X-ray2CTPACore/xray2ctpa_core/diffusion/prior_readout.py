"""PE from a radiograph's embedding by a prior: it draws CTPA embeddings, which the teacher's last layer
classifies (CMKD's matching layer)."""

from typing import Any

import torch
from torch import nn
from torch.special import logit

from xray2ctpa_core.diffusion.embedding_sampling import most_similar, sample_embeddings
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling
from xray2ctpa_core.errors import InputError

#: Ways to combine several draws into one score.
CHOICES = ("mean", "most-similar")
_NEAREST_TO_CERTAIN = 1e-6


class PriorReadout(nn.Module):
    """Radiograph's embedding -> logit of PE.

    Every radiograph gets the same noise, so that its score does not depend on its batch and two scores differ
    only because of the radiographs.

    Args:
        prior: of `embedding_sampling.guided`.
        head: the teacher's last layer, (B, E) -> (B, 1); frozen here.
        scheduler: of `embedding_sampling.sample_embeddings`.
        scaling: of the CTPA embeddings, as in the prior's training.
        given: scaling of the radiographs' embeddings; None leaves them unscaled, as in the release.
        steps: None takes every noise level.
        draws: number of CTPA embeddings drawn for a radiograph.
        choice: "mean" of the draws' probabilities, or the draw "most-similar" to the radiograph's embedding,
            as in the release's sample function.
        guidance_scale: of `embedding_sampling.guided`.
        seed: of the noise.
    """

    def __init__(
        self,
        prior: nn.Module,
        head: nn.Module,
        scheduler: Any,
        scaling: LatentScaling,
        given: LatentScaling | None = None,
        steps: int | None = None,
        draws: int = 4,
        choice: str = "mean",
        guidance_scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if choice not in CHOICES or draws < 1:
            raise InputError(
                f"Expected draws >= 1 and a choice of {', '.join(CHOICES)}, got {draws}, {choice!r}."
            )
        self.prior, self.head = prior, head.requires_grad_(False)
        self.scheduler, self.scaling, self.given = scheduler, scaling, given
        self.steps, self.draws, self.choice = steps, draws, choice
        self.guidance_scale, self.seed = guidance_scale, seed

    def conditioning(self, embedding: torch.Tensor) -> torch.Tensor:
        """Radiographs' embeddings (B, E), scaled for the prior."""
        return embedding if self.given is None else self.given.apply(embedding)

    @torch.no_grad()
    def draw(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, E) of radiographs -> (B, draws, E) CTPA embeddings, in the scale of the teacher's head."""
        generators = [
            torch.Generator().manual_seed(self.seed + draw) for _ in embedding for draw in range(self.draws)
        ]
        drawn = sample_embeddings(
            self.prior,
            self.scheduler,
            self.conditioning(embedding.float()),
            generators,
            self.steps,
            self.draws,
            self.guidance_scale,
        )
        return self.scaling.invert(drawn.flatten(0, 1)).unflatten(0, drawn.shape[:2])

    def first_estimate(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, E) of radiographs -> (B, 1) logits of the clean embedding that the prior predicts in its first
        step, averaged over the draws; differentiable."""
        conditioning = self.conditioning(embedding.float())
        level = int(self.scheduler.config["num_train_timesteps"]) - 1
        times = torch.full((len(embedding),), level, device=embedding.device)
        total = embedding.new_zeros((len(embedding), 1), dtype=torch.float32)
        for draw in range(self.draws):
            generator = torch.Generator().manual_seed(self.seed + draw)
            noise = torch.randn((1, len(self.scaling.shift)), generator=generator).to(conditioning)
            clean = self.prior(noise.expand(len(embedding), -1), times, conditioning)
            total = total + self.head(self.scaling.invert(clean))
        return total / self.draws

    @torch.no_grad()
    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, E) of radiographs -> (B, 1) logits of PE."""
        drawn = self.draw(embedding)
        if self.choice == "most-similar":
            return self.head(most_similar(drawn, embedding.to(drawn)))
        probability = self.head(drawn).double().sigmoid().mean(1)
        return logit(probability, eps=_NEAREST_TO_CERTAIN).float()
