"""Stage: self-supervised pre-training by inpainting, rotation and contrast (Tang et al., CVPR 2022)."""

import torch
from monai.losses import ContrastiveLoss
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.segmentation.self_supervision import TURNS, Guesses, SelfSupervised
from xray2ctpa_core.training.settings.segmentation import PretrainingConfig

#: Temperature of NT-Xent.
_TEMPERATURE = 0.5
#: Largest edge of a box over the crop's.
_LARGEST_BOX = 0.25


class PretrainingStage:
    """Cross-entropy of the rotation + NT-Xent of two views + L1 of the undisturbed crop.

    Batches hold "volume" (B, 1, D, H, W) in [-1, 1], H = W, at least two crops.

    Args:
        model: trained.
        config: weights, and how crops are disturbed.
    """

    def __init__(self, model: SelfSupervised, config: PretrainingConfig) -> None:
        self.module: nn.Module = model
        self._config = config
        self._contrast = ContrastiveLoss(temperature=_TEMPERATURE)

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        config, volumes = self._config, batch["volume"]
        turned, turns = zip(*(rotated(volumes, generator) for _ in range(2)), strict=True)
        views = torch.cat([disturbed(view, config.cut_out, generator) for view in turned])
        guesses: Guesses = module(views)
        contrast = guesses.contrast.float().chunk(2)
        terms = {
            "rotation": (
                config.rotation_weight,
                functional.cross_entropy(guesses.rotation.float(), torch.cat(turns)),
            ),
            "contrast": (config.contrast_weight, self._contrast(*contrast)),
            "inpainting": (
                config.inpainting_weight,
                functional.l1_loss(guesses.volume.float(), torch.cat(turned)),
            ),
        }
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return loss, {name: term.detach() for name, (_, term) in terms.items()}


def rotated(volumes: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Each volume turned about the patient's axis by a random number of quarter turns, and that number,
    (B,)."""
    turns = torch.randint(TURNS, (len(volumes),), generator=generator, device=generator.device)
    views = [torch.rot90(volume, int(turn), (2, 3)) for volume, turn in zip(volumes, turns, strict=True)]
    return torch.stack(views), turns.to(volumes.device)


def disturbed(volumes: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Boxes of each volume filled with noise, then boxes of the next volume of the batch put in its place.

    Args:
        volumes: (B, 1, D, H, W).
        share: boxes of either kind are added until their sizes, overlaps counted twice, sum to this share of
            the volume, 0 to 1.
        generator: draws the boxes and the noise.
    """
    noise = torch.randn(volumes.shape, generator=generator, device=generator.device).to(volumes)
    result = volumes.clone()
    for source in (noise, volumes.roll(1, 0)):
        for case in range(len(volumes)):
            held = 0.0
            while held < share:
                d, h, w = _box(tuple(volumes.shape[2:]), generator)
                result[case, 0, d, h, w] = source[case, 0, d, h, w]
                held += result[case, 0, d, h, w].numel() / volumes[case].numel()
    return result


def _box(grid: tuple[int, ...], generator: torch.Generator) -> tuple[slice, ...]:
    def drawn(high: int) -> int:
        return int(torch.randint(high, (), generator=generator, device=generator.device))

    edges = [1 + drawn(max(1, int(_LARGEST_BOX * size))) for size in grid]
    starts = [drawn(size - edge + 1) for size, edge in zip(grid, edges, strict=True)]
    return tuple(slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
