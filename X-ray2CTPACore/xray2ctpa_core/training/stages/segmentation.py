"""Stage: segmentation of crops by Dice and cross-entropy, and Dice of whole volumes."""

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from torch import nn

from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.models.segmentation.segmenter import Segmenter

#: Overlap of the sliding windows in which a whole volume is segmented.
_OVERLAP = 0.5


class SegmentationStage:
    """Batches hold "volume" (B, 1, D, H, W) in [0, 1] and "label" (B, 1, D, H, W), class numbers.

    Args:
        segmenter: trained.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.module: nn.Module = segmenter
        self._loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage; crops are drawn by the data
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        loss = self._loss(module(batch["volume"]).float(), batch["label"])
        return loss, {}


@torch.no_grad()
def segmented(segmenter: Segmenter, volume: torch.Tensor, window: tuple[int, ...]) -> np.ndarray:
    """(1, D, H, W) in [0, 1], any size -> (D, H, W) class numbers, by sliding windows."""
    logits = sliding_window_inference(volume[None], window, 1, segmenter, overlap=_OVERLAP)
    return logits[0].argmax(0).cpu().numpy()


def dice_of_classes(found: np.ndarray, reference: np.ndarray, classes: int) -> list[float]:
    """Dice of each class but the background; NaN where the class is absent from the reference."""
    return [dice(found == number, reference == number) for number in range(1, classes)]
