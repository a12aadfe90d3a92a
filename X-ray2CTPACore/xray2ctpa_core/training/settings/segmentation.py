"""Settings of self-supervised pre-training and of fine-tuning for segmentation."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Shape,
    Share,
    Weight,
    Window,
    settings,
)
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class SegmenterConfig:
    """Architecture of the segmenter."""

    network: Literal["unet", "swin-unetr"] = "swin-unetr"
    """MONAI's UNet or Swin UNETR."""
    feature_size: Positive = 48
    """Channels of the first level; a multiple of 12 for Swin UNETR."""


@settings
class PretrainingConfig:
    """Disturbance of crops, and weights of the three tasks."""

    cut_out: Share = 0.3
    """Share of a crop that is filled with noise, and share that is filled with another crop."""
    rotation_weight: Weight = 1.0
    """Weight of the cross-entropy of the rotation."""
    contrast_weight: Weight = 1.0
    """Weight of NT-Xent between two views of a crop."""
    inpainting_weight: Weight = 1.0
    """Weight of the L1 distance to the undisturbed crop."""


@settings
class PretrainingSettings(LoopConfig, SegmenterConfig, PretrainingConfig):
    """Self-supervised pre-training on volumes, generated or real, by inpainting, rotation and contrast."""

    studies: Existing = ""
    """Folder of the step ctpa, or a study index: volumes on one grid."""
    patients: Count = 0
    """Studies to take, from the first; 0 takes all."""
    hu_window: Window = DEFAULT_HU_WINDOW
    """HU window that becomes -1 to 1; that to which the volumes were clipped."""
    crop: Shape = (96, 96, 96)
    """Depth, height and width of the crops, in voxels; height and width alike."""
    steps: Positive = 50_000
    batch_size: Positive = 4
    learning_rate: Rate = 4e-4
    warmup: Count = 500
    weight_decay: Weight = 0.1


@settings
class SegmentationSettings(LoopConfig, SegmenterConfig):
    """Fine-tuning for segmentation by cross-validation, with Dice of the held-out cases."""

    data: Existing = ""
    """Folder in the form of the Medical Segmentation Decathlon (dataset.json, imagesTr, labelsTr), or of BCV
    (img, label; also in RawData/Training)."""
    start: ExistingOrNone = ""
    """Folder of the segmenter of the step pretraining; empty for random weights."""
    folds: Positive = 5
    """Folds of cross-validation; every case is tested once."""
    fold_seed: int = 1
    """Seed of the folds."""
    cases: Count = 0
    """Cases to take, from the first; 0 takes all."""
    hu_window: Window = (-175.0, 250.0)
    """HU window that becomes 0 to 1."""
    crop: Shape = (96, 96, 96)
    """Depth, height and width of the crops, in voxels."""
    steps: Positive = 5_000
    batch_size: Positive = 2
    learning_rate: Rate = 1e-4
    warmup: Count = 50
    weight_decay: Weight = 1e-5


@settings
class DiceTableSettings:
    """Dice of several runs of the step segmentation on the same cases, each compared with the first."""

    arms: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """NAME=FOLDER of a run; the first is the reference."""
