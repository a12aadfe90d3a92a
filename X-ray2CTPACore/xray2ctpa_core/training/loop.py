"""The one training loop: accelerate (one process, DDP or FSDP), mixed precision, gradient accumulation, EMA,
learning-rate schedule, an optional opponent (adversarial loss), logs, rotating checkpoints, resuming.
"""

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from xray2ctpa_core.config import append_json_line, replacing
from xray2ctpa_core.data.naming import Item, NamedData, naming
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.training.checkpoints import (
    CHECKPOINT_FOLDER,
    has_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from xray2ctpa_core.training.settings.loop import LoopConfig
from xray2ctpa_core.training.sharding import ShardedAverage, check_launch, gather, is_sharded

LOG_FILE, TENSORBOARD_FOLDER = "log.jsonl", "tensorboard"


class Stage(Protocol):
    """The interface between a stage and the loop."""

    module: nn.Module

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss () of a batch, and the terms to log."""
        ...


@runtime_checkable
class TwoPlayerStage(Stage, Protocol):
    """A stage with a second network, the opponent, that is trained against ``module``.

    ``loss`` must send no gradient to the opponent, and ``opponent_loss`` none to ``module``. The opponent has
    an AdamW of its own with the loop's settings, betas (0.5, 0.999), and the stage's ``opponent_rate``.
    """

    opponent: nn.Module
    opponent_rate: float

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The opponent's loss (), called right after ``loss`` with the same batch: it judges the samples that
        ``loss`` generated."""
        ...


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (case, seed of its augmentation) that depend on seed and step alone: resuming is exact.

    Args:
        cases: number of cases in the data.
        batch_size: cases in a batch of one process.
        seed: of the order and the augmentation.
        start, stop: first step, and the one after the last.
        batches: batches of a step; accelerate deals them out to the processes in turn.
    """

    def __init__(
        self, cases: int, batch_size: int, seed: int, start: int, stop: int, batches: int = 1
    ) -> None:
        self.cases, self.batch_size, self.seed = cases, batch_size, seed
        self.start, self.stop = start * batches, stop * batches

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(self.start, self.stop):
            yield self.drawn(batch)

    def drawn(self, batch: int) -> list[tuple[int, int]]:
        """(case, seed) of each item of batch number ``batch``, counted from the start of the training."""
        return [self._draw(batch * self.batch_size + place) for place in range(self.batch_size)]

    def _draw(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.cases)
        order = torch.randperm(self.cases, generator=torch.Generator().manual_seed(self.seed + 7919 * epoch))
        return int(order[place]), self.seed * 1_000_003 + position


def train(
    stage: Stage,
    data: Dataset[dict[str, torch.Tensor]],
    config: LoopConfig,
    out: Path,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> nn.Module:
    """Trains ``stage.module`` and returns it with its averaged weights, in evaluation mode; a run that was
    stopped continues from the newest checkpoint in ``out``.

    Args:
        stage: module and loss.
        data: indexed by (case, seed); its method ``where(case)``, where it has one, names cases in errors.
        config: settings.
        out: folder of the run: log.jsonl and, while it runs, checkpoint/. A line of the log holds the step,
            the loss and its terms, samples per second since the start, the shares of that time spent on
            waiting for data and on the network (forward, backward, update), and processor seconds.
        progress: called with (step, number of steps, logged terms) after each logged step.

    Raises:
        InputError: every checkpoint in ``out`` is damaged; or a library raised an error, which is passed on
            with the names of the batch's studies.
        DeviceError: a batch does not fit in memory, or /dev/shm is full.
        ConfigError: the loss is not finite where it is logged, or FSDP was asked for in version 1.
    """
    out = Path(out)
    check_launch()
    start, checkpoint = _start(out)
    accelerator = Accelerator(mixed_precision=config.precision, gradient_accumulation_steps=config.accumulate)
    sharded = is_sharded(accelerator)
    set_seed(config.seed)
    module = copy.deepcopy(stage.module) if sharded else stage.module  # the stage's own is not sharded
    optimizer = _optimizer(module, config)
    if config.schedule == "constant":
        schedule = get_constant_schedule_with_warmup(optimizer, config.warmup)
    else:
        schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup, config.steps)
    sampler = StepSampler(
        len(data),  # type: ignore[arg-type]
        config.batch_size,
        config.seed,
        start,
        config.steps,
        accelerator.num_processes * config.accumulate,
    )
    named = NamedData(data)
    loader = DataLoader(
        named,
        batch_sampler=sampler,  # type: ignore[arg-type]
        num_workers=config.workers,
        collate_fn=named.collate,
    )
    module, optimizer, loader = accelerator.prepare(module, optimizer, loader)
    opponent = _Opponent(stage, config, accelerator) if isinstance(stage, TwoPlayerStage) else None
    accelerator.register_for_checkpointing(schedule)  # not prepared: else each process would step it
    average_class = ShardedAverage if sharded else EMAModel
    average = average_class(module.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    average.to(accelerator.device)
    accelerator.register_for_checkpointing(average)
    if checkpoint is not None:
        _load(accelerator, checkpoint)
    log = _Log(out, config, accelerator, start, progress)
    began = time.process_time()
    module.train()
    seen: list[dict[str, torch.Tensor]] = []
    log.waits()
    for number, batch in enumerate(_batches(loader), start * config.accumulate):
        log.has_data()
        generator = torch.Generator(device=accelerator.device).manual_seed(
            config.seed * 15_485_863 + number * accelerator.num_processes + accelerator.process_index
        )
        place = number * accelerator.num_processes + accelerator.process_index
        names = functools.partial(_names, named, sampler, place)
        with accelerator.accumulate(module, *(opponent.prepared if opponent else ())):
            with naming(names):
                with accelerator.autocast():
                    loss, terms = stage.loss(module, batch, generator)
                accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(module.parameters(), config.gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if opponent is not None:
                with naming(names):
                    terms = terms | {"opponent": opponent.step(batch)}
        done = (number + 1) // config.accumulate
        log.has_computed(done)
        seen.append({"loss": loss.detach(), **terms})
        if accelerator.sync_gradients:
            schedule.step()
            average.step(module.parameters())
            log.step(done, seen)
            seen = []
            if done % config.checkpoint_every == 0 and done < config.steps:
                save_checkpoint(accelerator, out / CHECKPOINT_FOLDER, done, config.keep_checkpoints)
            if 0 < config.processor_seconds <= time.process_time() - began:
                break
        log.waits()
    log.close()
    module = accelerator.unwrap_model(module)
    average.copy_to(module.parameters())
    if sharded:
        gather(module, stage.module.to(accelerator.device))
    accelerator.free_memory()
    return stage.module.eval()


def _batches(loader: DataLoader[Item]) -> Iterator[Item]:
    """The loader's batches; an error in a loading process becomes a one-line error."""
    with naming(lambda: "the data"):
        batches = iter(loader)
    while True:
        with naming(lambda: "the data"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _names(named: NamedData, sampler: StepSampler, batch: int) -> str:
    return named.names([case for case, _ in sampler.drawn(batch)])


class _Opponent:
    """The other player of a TwoPlayerStage, with its optimiser.

    accelerate shards one network only. With FSDP each process therefore holds the whole opponent, whose
    gradients are averaged here.

    Attributes:
        prepared: the networks whose gradients accelerate averages.
    """

    def __init__(self, stage: TwoPlayerStage, config: LoopConfig, accelerator: Accelerator) -> None:
        self._stage, self._accelerator, self._clip = stage, accelerator, config.gradient_clip
        optimizer = torch.optim.AdamW(
            stage.opponent.parameters(),
            lr=stage.opponent_rate,
            weight_decay=config.weight_decay,
            betas=(0.5, 0.999),
        )
        self._module, self._optimizer = stage.opponent, optimizer
        if is_sharded(accelerator):
            if accelerator.scaler is not None:
                raise ConfigError(
                    "FSDP with an adversarial term does not support fp16.", "Set precision to bf16 or no."
                )
            self.prepared: tuple[nn.Module, ...] = ()
            self._module.to(accelerator.device)
            accelerator.register_for_checkpointing(self._module, optimizer)
        else:
            self._module, self._optimizer = accelerator.prepare(stage.opponent, optimizer)
            self.prepared = (self._module,)
        self._module.train()

    def step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One step of the opponent's optimiser; returns its loss ()."""
        with self._accelerator.autocast():
            loss = self._stage.opponent_loss(self._module, batch)
        self._accelerator.backward(loss)
        if self._accelerator.sync_gradients:
            if not self.prepared:
                for parameter in self._module.parameters():
                    parameter.grad = self._accelerator.reduce(parameter.grad, "mean")
            self._accelerator.clip_grad_norm_(self._module.parameters(), self._clip)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def _optimizer(module: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )


class _Log:
    """Writes log.jsonl and TensorBoard's files and reports progress every ``log_every`` steps. Terms are
    means over the step's batches in all processes."""

    def __init__(
        self,
        out: Path,
        config: LoopConfig,
        accelerator: Accelerator,
        start: int,
        progress: Callable[[int, int, dict[str, float]], None] | None,
    ) -> None:
        self._out, self._config, self._accelerator = out, config, accelerator
        self._start, self._progress = start, progress
        self._began = self._mark = time.monotonic()
        self._processor = time.process_time()
        self._waited = self._computed = 0.0
        self._board: Any = None
        if config.tensorboard and accelerator.is_main_process:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / TENSORBOARD_FOLDER), purge_step=start + 1)

    def waits(self) -> None:
        """From here on the loop waits for data."""
        self._mark = time.monotonic()

    def has_data(self) -> None:
        """The waiting is over, the network's work begins."""
        now = time.monotonic()
        self._waited, self._mark = self._waited + now - self._mark, now

    def has_computed(self, done: int) -> None:
        """The network's work for step number ``done`` is over."""
        if self._is_logged(done) and self._accelerator.device.type == "cuda":
            torch.cuda.synchronize()  # so that queued work counts as network time, not as waiting
        self._computed += time.monotonic() - self._mark

    def _is_logged(self, done: int) -> bool:
        return done % self._config.log_every == 0 or done == self._config.steps

    def step(self, done: int, seen: list[dict[str, torch.Tensor]]) -> None:
        """Logs step number ``done``; every process must call it.

        Raises:
            ConfigError: the loss or a term is not finite.
        """
        config, accelerator = self._config, self._accelerator
        if not self._is_logged(done):
            return
        means = {name: torch.stack([terms[name].float() for terms in seen]).mean() for name in seen[0]}
        entry = {name: accelerator.reduce(mean, "mean").item() for name, mean in means.items()}
        if not all(math.isfinite(value) for value in entry.values()):
            raise ConfigError(
                f"Expected finite terms of the loss, got {entry} at step {done} in {self._out}.",
                "Lower learning_rate, or set precision=no; run the command again to continue.",
            )
        if not accelerator.is_main_process:
            return
        elapsed = time.monotonic() - self._began
        cases = config.batch_size * config.accumulate * accelerator.num_processes
        speed = {
            "samples_per_s": (done - self._start) * cases / elapsed,
            "waiting_share": self._waited / elapsed,
            "network_share": self._computed / elapsed,
            "processor_s": time.process_time() - self._processor,
        }
        append_json_line(self._out / LOG_FILE, {"step": done, **entry, **speed})
        if self._board is not None:
            for name, value in (entry | speed).items():
                self._board.add_scalar(name, value, done)
        if self._progress is not None:
            self._progress(done, config.steps, entry)

    def close(self) -> None:
        """Ends TensorBoard's file."""
        if self._board is not None:
            self._board.close()


def _start(out: Path) -> tuple[int, Path | None]:
    """Number of completed steps, and the checkpoint to resume from; a run without one begins anew."""
    if has_checkpoint(out):
        return newest_checkpoint(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / LOG_FILE).unlink(missing_ok=True)  # of a run that was stopped before its first checkpoint
    return 0, None


def _load(accelerator: Accelerator, checkpoint: Path) -> None:
    """Loads ``checkpoint``; raises InputError with its name where a library cannot read it."""
    try:
        accelerator.load_state(str(checkpoint))
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"Expected a checkpoint of this run in {checkpoint}, got {type(error).__name__}: {text}",
            f"Remove {checkpoint} to resume from the one before, or all of them to train anew.",
        ) from error


def save_network(network: Any, folder: Path, also: Callable[[Path], None] | None = None) -> None:
    """Writes ``network`` by its save_pretrained, then calls ``also`` with the folder to write further files.

    The folder appears only when it is complete; only the main process writes it."""
    if not PartialState().is_main_process:
        return
    with replacing(folder) as partial:
        network.save_pretrained(partial)
        if also is not None:
            also(partial)
