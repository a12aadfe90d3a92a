"""Stage: the papers' denoiser, epsilon-prediction on latents with all four terms of their objective."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from diffusers import DDPMScheduler
from torch import nn

from xray2ctpa_core.diffusion.latent_scaling import LatentScaling
from xray2ctpa_core.diffusion.sampling import clean_estimate
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.codec import Codec
from xray2ctpa_core.models.denoisers.conditioned import NO_LABEL, ConditionedDenoiser
from xray2ctpa_core.training.draws import CaseDraws
from xray2ctpa_core.training.losses.denoising import (
    discriminator_loss,
    embolism_loss,
    reach_weight,
    realism,
    slice_distance,
    within_range,
)
from xray2ctpa_core.training.settings.denoisers import GuidanceDropout, ObjectiveWeights

#: Added to a case's seed for its draws of noise; its augmentation uses the seed itself.
_NOISE_STREAM = 1 << 40

Network = TypeVar("Network", bound=nn.Module)


class Judges(NamedTuple):
    """The networks of the loss terms, frozen but for the discriminator; None where a term's weight is 0.

    Attributes:
        codec, distance: of the perceptual term.
        classifier, classifier_scaling: of the classifier's term; its scaling may differ from the denoiser's.
        discriminator: of the adversarial term.
    """

    codec: Codec | None = None
    distance: nn.Module | None = None
    classifier: nn.Module | None = None
    classifier_scaling: LatentScaling | None = None
    discriminator: nn.Module | None = None


class PaperDenoiserStage:
    """L1 of epsilon + lambda 1 perceptual + lambda 2 adversarial + lambda 3 classifier (X-ray2CTPA, eq. 6).

    Random numbers are drawn for each case (CaseDraws), independently of the batch.

    Args:
        model: the module; parameters that require no gradient are not trained.
        embed: (B, 1, P, P) radiographs -> (B, E); frozen here. None trains without radiographs.
        scheduler: noise schedule.
        scaling: of the latents in the batches.
        weights: of the terms.
        judges: networks of the terms.
        dropout: of the conditions.
        pos_weight: weight of cases with PE in the classifier's term.

    Raises:
        ConfigError: the network of a term with a weight above 0 is missing.
    """

    def __init__(
        self,
        model: ConditionedDenoiser,
        embed: nn.Module | None,
        scheduler: DDPMScheduler,
        scaling: LatentScaling,
        weights: ObjectiveWeights,
        judges: Judges,
        dropout: GuidanceDropout,
        pos_weight: float = 1.0,
    ) -> None:
        self.module: nn.Module = model
        self._embed = _frozen(embed)
        self._scheduler, self._scaling, self._weights = scheduler, scaling, weights
        self._dropout, self._pos_weight = dropout, pos_weight
        self._judges = judges._replace(
            codec=_frozen(judges.codec),
            distance=_frozen(judges.distance),
            classifier=_frozen(judges.classifier),
        )
        needs = (
            ("perceptual_weight", judges.codec is not None and judges.distance is not None),
            ("classifier_weight", judges.classifier is not None and judges.classifier_scaling is not None),
            ("adversarial_weight", judges.discriminator is not None),
        )
        lacking = [name for name, there in needs if getattr(weights, name) > 0 and not there]
        if lacking:
            raise ConfigError(
                f"Expected a network for each term with a weight above 0, got none for {', '.join(lacking)}."
            )

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage; a case's draws are its own
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        latents = batch["latents"]
        draws = CaseDraws(batch["seed"] + _NOISE_STREAM)
        timesteps = (draws.uniform() * self._scheduler.config["num_train_timesteps"]).long()
        noise = draws.normal(latents.shape[1:])
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        predicted = module(noisy, timesteps, *self._conditions(batch, draws)).float()
        terms = {"l1": (predicted - noise).abs().mean()}
        loss = terms["l1"]
        estimate = within_range(clean_estimate(self._scheduler, noisy, predicted, timesteps), latents)
        weight = reach_weight(self._scheduler, timesteps)
        for name, scale, term in self._judgements():
            terms[name] = (weight * term(estimate, batch, draws)).mean()
            loss = loss + scale * terms[name]
        return loss, {name: term.detach() for name, term in terms.items()}

    def _conditions(
        self, batch: dict[str, torch.Tensor], draws: CaseDraws
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        """Embedding (B, E), mask (B,) of cases that keep it, labels (B,). The draws are the same for every
        kind of conditioning."""
        keep = draws.uniform() >= self._dropout.radiograph_dropout
        tell = draws.uniform() >= self._dropout.label_dropout
        embedding, label = None, None
        if self._embed is not None:
            with torch.no_grad():
                embedding = self._embed.to(keep.device)(batch["image"]).float()
        if "label" in batch:
            label = torch.where(tell, batch["label"].long(), NO_LABEL)
        return embedding, keep, label

    def _judgements(self) -> list[tuple[str, float, Callable[..., torch.Tensor]]]:
        terms = (
            ("perceptual", self._weights.perceptual_weight, self._perceptual),
            ("adversarial", self._weights.adversarial_weight, self._adversarial),
            ("classifier", self._weights.classifier_weight, self._classifier),
        )
        return [term for term in terms if term[1] > 0]

    def _perceptual(
        self, estimate: torch.Tensor, batch: dict[str, torch.Tensor], draws: CaseDraws
    ) -> torch.Tensor:
        codec, distance = self._judges.codec, self._judges.distance
        assert codec is not None and distance is not None  # noqa: PT018 - the constructor saw to it
        return slice_distance(
            distance.to(estimate.device),
            codec.to(estimate.device).decode_slices,
            self._scaling.invert(estimate),
            self._scaling.invert(batch["latents"]),
            draws.uniform(),
        )

    def _adversarial(
        self,
        estimate: torch.Tensor,
        batch: dict[str, torch.Tensor],  # noqa: ARG002
        draws: CaseDraws,  # noqa: ARG002
    ) -> torch.Tensor:
        assert self._judges.discriminator is not None
        self.shown = estimate.detach()
        return realism(self._judges.discriminator.to(estimate.device), estimate)

    def _classifier(
        self,
        estimate: torch.Tensor,
        batch: dict[str, torch.Tensor],
        draws: CaseDraws,  # noqa: ARG002
    ) -> torch.Tensor:
        classifier, scaling = self._judges.classifier, self._judges.classifier_scaling
        assert classifier is not None and scaling is not None  # noqa: PT018
        read = scaling.apply(self._scaling.invert(estimate))
        return embolism_loss(classifier.to(estimate.device)(read), batch["label"], self._pos_weight)


class AdversarialDenoiserStage(PaperDenoiserStage):
    """With the adversarial term: a TwoPlayerStage whose opponent is the discriminator.

    ``opponent_rate`` is its learning rate; the rest is as in PaperDenoiserStage.
    """

    def __init__(self, *arguments: object, opponent_rate: float = 1e-4, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        assert self._judges.discriminator is not None
        self.opponent: nn.Module = self._judges.discriminator
        self.opponent_rate = opponent_rate

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """See TwoPlayerStage."""
        return discriminator_loss(opponent, batch["latents"], self.shown)


def _frozen(network: Network | None) -> Network | None:
    """The network in evaluation mode with frozen weights; gradients still pass through it."""
    return None if network is None else network.eval().requires_grad_(False)
