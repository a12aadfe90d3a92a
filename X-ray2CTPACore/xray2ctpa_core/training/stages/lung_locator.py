"""Stage: the lung locator and input gate, on simulated radiographs drawn on the fly."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.simulation.locator_radiographs import FRONTAL, UNDECIDED, LocatorRadiographs

#: Weight in the class loss of the question whether a complete frontal radiograph is mirrored.
_MIRRORED_WEIGHT = 0.5
#: Added to both sides of the Dice ratio, in pixels.
_DICE_SMOOTHING = 50.0


class DrawnRadiographs(Dataset[dict[str, torch.Tensor]]):
    """One case, drawn anew from the seed of each item: no radiograph occurs twice."""

    def __init__(self, radiographs: LocatorRadiographs) -> None:
        self._radiographs = radiographs

    def __len__(self) -> int:
        return 1

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        return self._radiographs[item[1]]


class LungLocatorStage:
    """Mask loss (cross-entropy and Dice, on radiographs with masks) and class loss (on those with a class).

    Args:
        locator: the module.
        class_weight: weight of the class loss beside the mask loss.
    """

    def __init__(self, locator: LungLocator, class_weight: float) -> None:
        self.module: nn.Module = locator
        self._class_weight = class_weight

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        output, entropy = module(batch["image"]), functional.binary_cross_entropy_with_logits
        mask_logits, masks, learnt = output.mask_logits.float(), batch["masks"], batch["learn_masks"]
        pixelwise = entropy(mask_logits, masks, reduction="none").mean((1, 2, 3))
        probability = mask_logits.sigmoid()
        overlap = 2 * (probability * masks).sum((2, 3)) + _DICE_SMOOTHING
        dice = 1 - overlap / (probability.sum((2, 3)) + masks.sum((2, 3)) + _DICE_SMOOTHING)
        mask_loss = ((pixelwise + dice.mean(1)) * learnt).sum() / learnt.sum().clamp(min=1)
        class_loss = functional.cross_entropy(
            output.class_logits.float(), batch["label"], ignore_index=UNDECIDED, label_smoothing=0.01
        )
        frontal = (batch["label"] == FRONTAL).float()
        mirrored = entropy(output.mirrored_logits.float(), batch["mirrored"], reduction="none")
        mirrored_loss = (mirrored * frontal).sum() / frontal.sum().clamp(min=1)
        class_loss = class_loss + _MIRRORED_WEIGHT * mirrored_loss
        terms = {"mask": mask_loss.detach(), "class": class_loss.detach()}
        return mask_loss + self._class_weight * class_loss, terms
