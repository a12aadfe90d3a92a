"""The loop learns, logs, and goes on after an interruption exactly as if there had been none."""

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from xray2ctpa_core.config import from_mapping
from xray2ctpa_core.errors import ConfigError, DeviceError, InputError, OutputError
from xray2ctpa_core.training.checkpoints import CHECKPOINT_FOLDER, has_checkpoint
from xray2ctpa_core.training.loop import LOG_FILE, TENSORBOARD_FOLDER, StepSampler, train
from xray2ctpa_core.training.settings.loop import LoopConfig


class Line(Dataset[dict[str, torch.Tensor]]):
    """y = 3 x - 1, with noise drawn from the item's seed."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        case, seed = item
        noise = torch.randn((), generator=torch.Generator().manual_seed(seed))
        x = torch.tensor([case / 7.0])
        return {"x": x, "y": 3 * x - 1 + 0.01 * noise}


class LineStage:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(1, 1)

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        jitter = 0.01 * torch.randn(batch["x"].shape, generator=generator)
        loss = ((module(batch["x"] + jitter) - batch["y"]) ** 2).mean()
        return loss, {"mse": loss.detach()}


def config(**changes: object) -> LoopConfig:
    values = {"steps": 12, "batch_size": 3, "learning_rate": 0.1, "warmup": 1, "ema_decay": 0.5}
    every = {"checkpoint_every": 4, "log_every": 1, "tensorboard": False}
    return from_mapping(LoopConfig, {**values, "precision": "no", **every, **changes})


class Interrupted(Exception):
    """Stands for a kill between two steps."""


def test_a_resumed_run_ends_with_the_same_weights_and_log(tmp_path: Path) -> None:
    whole = LineStage()
    train(whole, Line(), config(), tmp_path / "whole")

    def stop_after_six(step: int, of: int, terms: dict[str, float]) -> None:
        if step == 6:
            raise Interrupted

    cut = LineStage()
    with pytest.raises(Interrupted):
        train(cut, Line(), config(), tmp_path / "cut", progress=stop_after_six)
    resumed = LineStage()
    train(resumed, Line(), config(), tmp_path / "cut")
    for a, b in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)
    logs = [
        [json.loads(line) for line in (tmp_path / name / LOG_FILE).read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert [e["loss"] for e in logs[1]] == [e["loss"] for e in logs[0][:6] + logs[0][4:]]


def test_the_loop_learns_the_line(tmp_path: Path) -> None:
    stage = LineStage()
    module = train(stage, Line(), config(steps=200, learning_rate=0.3), tmp_path / "run")
    assert not module.training
    slope, offset = (p.item() for p in module.parameters())
    assert slope == pytest.approx(3, abs=0.3)
    assert offset == pytest.approx(-1, abs=0.2)


def test_the_log_says_how_fast_it_is_and_where_the_time_goes(tmp_path: Path) -> None:
    class Slow(Line):
        def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
            time.sleep(0.01)
            return super().__getitem__(item)

    began = time.monotonic()
    train(LineStage(), Slow(), config(), tmp_path)
    last = json.loads((tmp_path / LOG_FILE).read_text().splitlines()[-1])
    assert 12 * 3 / (time.monotonic() - began) < last["samples_per_s"] < 1 / 0.01
    assert last["waiting_share"] > 0
    assert last["network_share"] > 0
    assert last["waiting_share"] + last["network_share"] <= 1


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    def stop_after_two(step: int, of: int, terms: dict[str, float]) -> None:
        if step == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(LineStage(), Line(), config(), tmp_path, stop_after_two)
    assert not has_checkpoint(tmp_path)
    train(LineStage(), Line(), config(), tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert steps == list(range(1, config().steps + 1)), "the log holds no step of the stopped run"


def test_the_order_does_not_depend_on_where_a_run_starts() -> None:
    whole = list(StepSampler(5, 3, 1, 0, 8))
    assert whole[4:] == list(StepSampler(5, 3, 1, 4, 8))
    first_epoch = [case for batch in whole for case, _ in batch][:5]
    assert sorted(first_epoch) == [0, 1, 2, 3, 4]
    assert len({seed for batch in whole for _, seed in batch}) == 24


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="precision"):
        config(precision="fp8")
    with pytest.raises(ConfigError, match=r"steps: .* greater than 0, got 0"):
        config(steps=0)
    with pytest.raises(ConfigError, match="accumulate"):
        config(accumulate=0)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / LOG_FILE).read_text().splitlines()]


class StillStage(LineStage):
    """Without noise of its own: what it learns depends on the cases of a step alone."""

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = ((module(batch["x"]) - batch["y"]) ** 2).mean()
        return loss, {"mse": loss.detach()}


def test_two_accumulated_batches_are_one_of_twice_the_size(tmp_path: Path) -> None:
    train(StillStage(), Line(), config(batch_size=4), tmp_path / "large")
    train(StillStage(), Line(), config(batch_size=2, accumulate=2), tmp_path / "accumulated")
    assert losses(tmp_path / "accumulated") == pytest.approx(losses(tmp_path / "large"), rel=1e-5)


def test_the_newest_checkpoints_stay_and_a_torn_one_is_not_taken(tmp_path: Path) -> None:
    train(LineStage(), Line(), config(steps=12, checkpoint_every=2, keep_checkpoints=2), tmp_path)
    folder = tmp_path / CHECKPOINT_FOLDER
    assert sorted(int(path.name) for path in folder.iterdir()) == [8, 10]
    (folder / "10" / "progress.json").unlink()
    assert has_checkpoint(tmp_path)
    seen: list[int] = []
    resume_at = config(steps=12, checkpoint_every=2, keep_checkpoints=2)
    train(LineStage(), Line(), resume_at, tmp_path, lambda step, of, terms: seen.append(step))
    assert seen == [9, 10, 11, 12]


def newest_torn(out: Path, checkpoints: int) -> Path:
    """A finished run whose newest checkpoint, at step 10, lost the end of its optimiser's file."""
    train(LineStage(), Line(), config(steps=12, checkpoint_every=2, keep_checkpoints=checkpoints), out)
    file = out / CHECKPOINT_FOLDER / "10" / "optimizer.bin"
    file.write_bytes(file.read_bytes()[:-7])
    return file


def test_a_run_goes_on_from_the_checkpoint_before_a_truncated_one_and_says_so(tmp_path: Path) -> None:
    file = newest_torn(tmp_path, checkpoints=2)
    seen: list[int] = []
    with pytest.warns(UserWarning, match=f"{file} is damaged: .* from the one before, .*/8"):
        train(LineStage(), Line(), config(), tmp_path, lambda step, of, terms: seen.append(step))
    assert seen == [9, 10, 11, 12]


def test_where_no_whole_checkpoint_is_left_the_damaged_file_is_named(tmp_path: Path) -> None:
    file = newest_torn(tmp_path, checkpoints=1)
    with pytest.raises(InputError, match=f"{file} is damaged: [0-9]+ bytes were written"):
        train(LineStage(), Line(), config(), tmp_path)


def test_a_checkpoint_that_cannot_be_written_is_named_with_the_free_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Accelerator, folder: str) -> None:
        Path(folder).mkdir(parents=True)
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 16832 vs 16724")

    monkeypatch.setattr(Accelerator, "save_state", fill)
    with pytest.raises(OutputError, match=r"checkpoint/2, got RuntimeError: .*16724; [0-9]+ MB are free"):
        train(LineStage(), Line(), config(checkpoint_every=2), tmp_path)
    assert list((tmp_path / CHECKPOINT_FOLDER).iterdir()) == []


class Damaged(Line):
    """The third of seven studies raises what a library would."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def where(self, case: int) -> str:
        return f"study {case} (t.csv, row {case + 2})"

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        if item[0] == 2 and self._error is not None:
            raise self._error
        return super().__getitem__(item)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_library_raises_carries_the_study(tmp_path: Path, workers: int) -> None:
    data = Damaged(EOFError("Compressed file ended\nbefore the end"))
    said = r"^Unexpected EOFError with study 2 \(t.csv, row 4\): Compressed file ended before the end$"
    with pytest.raises(InputError, match=said):
        train(LineStage(), data, config(workers=workers), tmp_path)


def test_studies_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    class Longer(Damaged):
        def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
            entry = Line.__getitem__(self, item)
            return entry if item[0] else entry | {"x": torch.zeros(2)}

    with pytest.raises(InputError, match=r"RuntimeError with .*study 0 \(t.csv, row 2\)"):
        train(LineStage(), Longer(None), config(batch_size=7), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "unable to write to file </torch_12_34>: No space left on device (28)",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers "
        "are out of shared memory. Please try to raise your shared memory limit.",
    ],
)
def test_a_full_shared_memory_is_said_to_be_full(tmp_path: Path, text: str) -> None:
    with pytest.raises(DeviceError, match=r"shared memory \(/dev/shm\)") as caught:
        train(LineStage(), Damaged(RuntimeError(text)), config(), tmp_path)
    assert "workers=0" in caught.value.hint


def test_an_error_in_the_network_carries_the_studies_of_its_batch(tmp_path: Path) -> None:
    class Breaks(StillStage):
        def loss(
            self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    first = [case for case, _ in next(iter(StepSampler(7, 3, 1, 0, 1)))]
    names = ", ".join(rf"study {case} \(t.csv, row {case + 2}\)" for case in first)
    with pytest.raises(InputError, match=f"RuntimeError with {names}: mat1"):
        train(Breaks(), Damaged(None), config(), tmp_path)


def test_an_error_in_the_opponent_carries_the_studies_of_its_batch(tmp_path: Path) -> None:
    class Breaks(TwoPlayers):
        def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(InputError, match=r"RuntimeError with study \d \(t.csv, row \d\), .*: mat1"):
        train(Breaks(), Damaged(None), config(), tmp_path)


def test_tensorboard_shows_what_the_log_says(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(LineStage(), Line(), config(steps=3, tensorboard=True), tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER)).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_before_its_next_checkpoint(tmp_path: Path) -> None:
    class Breaks(StillStage):
        calls = 0

        def loss(
            self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            self.calls += 1
            loss, terms = super().loss(module, batch, generator)
            return loss * (float("inf") if self.calls == 7 else 1), terms

    with pytest.raises(ConfigError, match="at step 7"):
        train(Breaks(), Line(), config(checkpoint_every=1), tmp_path)
    assert sorted(path.name for path in (tmp_path / CHECKPOINT_FOLDER).iterdir()) == ["5", "6"]
    assert len(losses(tmp_path)) == 6


def test_fsdp_of_version_1_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="version 2"):
        train(LineStage(), Line(), config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class TwoPlayers(StillStage):
    """The module also wants the opponent to score what it says low; the opponent wants it to be high."""

    opponent_rate = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.opponent: nn.Module = nn.Linear(1, 1)

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        said = module(batch["x"])
        self.said = said.detach()
        weights = {name: p.detach() for name, p in self.opponent.named_parameters()}
        loss = torch.func.functional_call(self.opponent, weights, said).mean()
        return loss, {"said": self.said.mean()}

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (opponent(self.said) - 1).square().mean()


def test_both_players_learn_and_a_resumed_game_goes_on_the_same(tmp_path: Path) -> None:
    whole = TwoPlayers()
    before = [p.detach().clone() for p in (*whole.module.parameters(), *whole.opponent.parameters())]
    train(whole, Line(), config(), tmp_path / "whole")
    after = [*whole.module.parameters(), *whole.opponent.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def stop_after_six(step: int, of: int, terms: dict[str, float]) -> None:
        if step == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(TwoPlayers(), Line(), config(), tmp_path / "cut", progress=stop_after_six)
    resumed = TwoPlayers()
    train(resumed, Line(), config(), tmp_path / "cut")
    for a, b in zip(after, [*resumed.module.parameters(), *resumed.opponent.parameters()], strict=True):
        assert torch.equal(a, b)
