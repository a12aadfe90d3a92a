"""Stage: CycleGAN between real and computed radiographs (Zhu et al., ICCV 2017); a check of the anatomy."""

import random
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.framing.style_transfer import COMPUTED, REAL, StyleTransfer
from xray2ctpa_core.training.losses.denoising import build_discriminator, realism
from xray2ctpa_core.training.settings.style_transfer import StyleTransferConfig


class Translators(nn.Module):
    """Both directions, trained as one network."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.to_computed = StyleTransfer(width, blocks, COMPUTED)
        self.to_real = StyleTransfer(width, blocks, REAL)

    def forward(self, real: torch.Tensor, computed: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 1, P, P) of each style -> the translations that CycleGAN's loss compares, by name."""
        as_computed, as_real = self.to_computed(real), self.to_real(computed)
        return {
            "as_computed": as_computed,
            "as_real": as_real,
            "real_again": self.to_real(as_computed),
            "computed_again": self.to_computed(as_real),
            "real_kept": self.to_real(real),
            "computed_kept": self.to_computed(computed),
        }


class Judges(nn.Module):
    """A discriminator of each style."""

    def __init__(self, pixels: int, layers: int, width: int) -> None:
        super().__init__()
        self.real = build_discriminator(1, (pixels, pixels), layers, width)
        self.computed = build_discriminator(1, (pixels, pixels), layers, width)

    def forward(self, real: torch.Tensor, computed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 1, P, P) each -> scores of patches."""
        return self.real(real)[-1], self.computed(computed)[-1]


class StyleTransferStage:
    """Least squares + cycle + identity: a TwoPlayerStage. Radiographs are never mirrored, so that the heart
    stays on its side.

    Batches hold "real" and "computed" (B, 1, P, P) in [0, 1], of different patients.

    Args:
        translators: trained.
        config: weights.
        opponent: the discriminators of both styles.
        opponent_rate: their learning rate.
    """

    def __init__(
        self, translators: Translators, config: StyleTransferConfig, opponent: Judges, opponent_rate: float
    ) -> None:
        self.module: nn.Module = translators
        self.opponent: nn.Module = opponent
        self.opponent_rate = opponent_rate
        self._judges, self._config = opponent, config
        self._pools = {style: _Pool(config.pool) for style in ("as_real", "as_computed")}

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage; the pools draw from their own
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        config, real, computed = self._config, batch["real"], batch["computed"]
        made = {name: image.float() for name, image in module(real, computed).items()}
        self._shown = {style: made[style].detach() for style in self._pools}
        judges = self._judges.to(real.device)
        fooled = realism(judges.real, made["as_real"]).mean()
        fooled = fooled + realism(judges.computed, made["as_computed"]).mean()
        cycle = _distance(made["real_again"], real) + _distance(made["computed_again"], computed)
        identity = _distance(made["real_kept"], real) + _distance(made["computed_kept"], computed)
        loss = fooled + config.cycle_weight * (cycle + config.identity_weight * identity)
        terms = {"adversarial": fooled, "cycle": cycle, "identity": identity}
        return loss, {name: term.detach() for name, term in terms.items()}

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """See TwoPlayerStage; half of the translations are replaced by earlier ones from a pool."""
        shown = {style: pool(self._shown[style]) for style, pool in self._pools.items()}
        scores = opponent(
            torch.cat([batch["real"], shown["as_real"]]), torch.cat([batch["computed"], shown["as_computed"]])
        )
        total = torch.zeros((), device=batch["real"].device)
        for both in scores:
            for_real, for_translated = both.float().chunk(2)
            total = total + ((for_real - 1).square().mean() + for_translated.square().mean()) / 2
        return total


class _Pool:
    """Earlier translations (Shrivastava et al., CVPR 2017); begins empty where a run is resumed."""

    def __init__(self, size: int) -> None:
        self._size, self._images, self._random = size, [], random.Random(0)  # type: ignore[var-annotated]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Returns each image, or an earlier one from the pool, which the image then replaces there."""
        given = []
        for image in images:
            if len(self._images) < self._size:
                self._images.append(image)
                given.append(image)
            elif self._random.random() < 0.5:
                place = self._random.randrange(self._size)
                given.append(self._images[place])
                self._images[place] = image
            else:
                given.append(image)
        return torch.stack(given)


def _distance(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference on the networks' scale, -1 to 1."""
    return 2 * functional.l1_loss(image, reference)


@torch.no_grad()
def lungs_kept(
    lungs: Callable[[torch.Tensor], torch.Tensor], before: torch.Tensor, after: torch.Tensor
) -> torch.Tensor:
    """(B,): Dice overlap of the lung masks before and after translation; 1 for unchanged anatomy.

    Args:
        lungs: (B, 1, P, P) radiographs -> (B, 1, P, P) bool masks.
        before, after: radiographs and their translations.
    """
    a, b = (lungs(images).flatten(1) for images in (before, after))
    both = (a & b).sum(1).float()
    return 2 * both / (a.sum(1) + b.sum(1)).clamp_min(1)
