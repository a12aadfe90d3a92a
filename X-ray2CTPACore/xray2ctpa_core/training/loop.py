"""The one training loop: accelerate, mixed precision, EMA, cosine schedule, log, checkpoint, resume."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.errors import ConfigError, InputError

LOG_FILE = "log.jsonl"
_PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class LoopConfig:
    """Settings that every stage shares; a stage's own configuration extends it.

    Attributes:
        steps: optimiser steps; batch_size: cases a step and process.
        learning_rate: highest, after ``warmup`` steps; then a cosine to zero.
        weight_decay: of AdamW; gradient_clip: largest norm.
        ema_decay: decay of the running mean of the weights that is saved.
        precision: "no", "bf16" or "fp16" (accelerate's mixed precision).
        seed: of initial weights, order and augmentation.
        workers: processes that load data.
        checkpoint_every, log_every: in steps.
    """

    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    precision: str = "bf16"
    seed: int = 1
    workers: int = 0
    checkpoint_every: int = 250
    log_every: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.warmup < 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(f"steps and batch_size must be positive, ema_decay in [0, 1): got {self}.")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ConfigError(f"precision must be no, bf16 or fp16, got {self.precision!r}.")


class Stage(Protocol):
    """What a stage gives to the loop."""

    module: nn.Module

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch and the terms to log."""
        ...


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (case, seed of its augmentation) that depend on seed and step alone: resuming is exact.

    Args:
        cases, batch_size, seed: of the data, a process's step and the order.
        start, stop: first step and the one after the last.
        processes: every step takes this many batches, which accelerate hands out one a process.
    """

    def __init__(
        self, cases: int, batch_size: int, seed: int, start: int, stop: int, processes: int = 1
    ) -> None:
        self.cases, self.batch_size, self.seed = cases, batch_size, seed
        self.start, self.stop = start * processes, stop * processes

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(self.start, self.stop):
            yield [self._draw(batch * self.batch_size + place) for place in range(self.batch_size)]

    def _draw(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.cases)
        order = torch.randperm(self.cases, generator=torch.Generator().manual_seed(self.seed + 7919 * epoch))
        return int(order[place]), self.seed * 1_000_003 + position


def train(
    stage: Stage,
    data: Dataset[dict[str, torch.Tensor]],
    config: LoopConfig,
    out: Path,
    resume: bool = False,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> nn.Module:
    """Trains ``stage.module`` and returns it with its averaged weights, in evaluation mode.

    Args:
        stage: module and loss.
        data: items are asked for with (case, seed).
        config: settings.
        out: folder of the run: log.jsonl and, while it runs, checkpoint/. A line of the log holds the step,
            the loss and its terms, samples per second since the start, and which share of that time went
            into waiting for data and into the network (forward, backward, update).
        resume: go on from the checkpoint in ``out``; without it a run there is refused.
        progress: called with (step, of, logged terms) after each logged step.

    Raises:
        InputError: if ``out`` holds a run and resume is off, or holds none and it is on.
    """
    out = Path(out)
    checkpoint = out / "checkpoint"
    start = _start(out, checkpoint, resume)
    accelerator = Accelerator(mixed_precision=config.precision)
    set_seed(config.seed)
    module = stage.module
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup, config.steps)
    sampler = StepSampler(
        len(data),  # type: ignore[arg-type]
        config.batch_size,
        config.seed,
        start,
        config.steps,
        accelerator.num_processes,
    )
    loader = DataLoader(data, batch_sampler=sampler, num_workers=config.workers)  # type: ignore[arg-type]
    module, optimizer, loader = accelerator.prepare(module, optimizer, loader)
    accelerator.register_for_checkpointing(schedule)  # not prepared: accelerate would step it once a process
    average = EMAModel(module.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    average.to(accelerator.device)
    accelerator.register_for_checkpointing(average)
    if start:
        accelerator.load_state(str(checkpoint))
    module.train()
    began, waited, computed, last = time.monotonic(), 0.0, 0.0, time.monotonic()
    for step, batch in enumerate(loader, start):
        entered = time.monotonic()
        waited += entered - last
        generator = torch.Generator(device=accelerator.device).manual_seed(
            config.seed * 15_485_863 + step * accelerator.num_processes + accelerator.process_index
        )
        with accelerator.autocast():
            loss, terms = stage.loss(module, batch, generator)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(module.parameters(), config.gradient_clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(module.parameters())
        done = step + 1
        logs = done % config.log_every == 0 or done == config.steps
        if logs and accelerator.device.type == "cuda":
            torch.cuda.synchronize()  # what was asked for counts where it was computed
        computed += time.monotonic() - entered
        if logs and accelerator.is_main_process:
            elapsed = time.monotonic() - began
            entry = {"loss": loss.item(), **{k: v.item() for k, v in terms.items()}}
            speed = (done - start) * config.batch_size * accelerator.num_processes / elapsed
            shares = {"waiting_share": waited / elapsed, "network_share": computed / elapsed}
            _log(out, {"step": done, **entry, "samples_per_s": speed, **shares})
            if progress is not None:
                progress(done, config.steps, entry)
        if done % config.checkpoint_every == 0 and done < config.steps:
            _save(accelerator, checkpoint, done)
        last = time.monotonic()
    module = accelerator.unwrap_model(module)
    average.copy_to(module.parameters())
    return module.eval()


def _start(out: Path, checkpoint: Path, resume: bool) -> int:
    if resume:
        if not (checkpoint / _PROGRESS_FILE).is_file():
            raise InputError(f"--resume needs {checkpoint} from a previous run, found none.")
        return int(json.loads((checkpoint / _PROGRESS_FILE).read_text(encoding="utf-8"))["step"])
    if (checkpoint / _PROGRESS_FILE).is_file():
        raise InputError(
            f"{out} already holds a run.", "Pass --resume to go on with it, or choose another --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / LOG_FILE).unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
    return 0


def _save(accelerator: Accelerator, checkpoint: Path, step: int) -> None:
    """Writes the checkpoint beside the former one, then puts it in its place."""
    partial = checkpoint.with_name(checkpoint.name + ".partial")
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_text_atomically(partial / _PROGRESS_FILE, json.dumps({"step": step}))
        shutil.rmtree(checkpoint, ignore_errors=True)
        os.replace(partial, checkpoint)
    accelerator.wait_for_everyone()


def _log(out: Path, entry: dict[str, Any]) -> None:
    with (out / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def save_network(network: Any, folder: Path) -> None:
    """Writes ``network`` by its save_pretrained, in the main process alone."""
    if PartialState().is_main_process:
        network.save_pretrained(folder)
