"""Settings that every training step shares."""

from typing import Annotated, Literal

from pydantic import Field

from xray2ctpa_core.data.settings import Count, Positive, Rate, Weight, settings


@settings
class LoopConfig:
    """The training loop; a step's own settings extend it."""

    steps: Positive = 1000
    """Optimiser steps."""
    processor_seconds: Weight = 0.0
    """Training ends after so much processor time since it was started, steps done or not; 0 for never."""
    batch_size: Positive = 8
    """Cases in a batch of one process."""
    accumulate: Positive = 1
    """Batches whose gradients are averaged for one optimiser step."""
    learning_rate: Rate = 1e-3
    """Highest learning rate, reached after warmup steps."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after warmup: cosine decay to zero, or constant."""
    warmup: Count = 50
    """Steps in which the learning rate rises."""
    weight_decay: Weight = 1e-2
    """Weight decay of AdamW."""
    gradient_clip: Rate = 1.0
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the running mean of the weights; that mean is saved."""
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Mixed precision of accelerate."""
    seed: int = 1
    """Seed of initial weights, order and augmentation."""
    workers: Count = 0
    """Processes that load data; 0 loads in the training process."""
    checkpoint_every: Positive = 250
    """Steps between checkpoints."""
    log_every: Positive = 10
    """Steps between lines of log.jsonl."""
    keep_checkpoints: Positive = 2
    """Number of newest checkpoints to keep; with two, an older one replaces a damaged one."""
    tensorboard: bool = True
    """Whether the log is also written for TensorBoard."""
