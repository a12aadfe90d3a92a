"""Stage: any classifier trained on PE labels, on one split or all folds, and its predictions for held-out
cases."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import PartialState
from torch import nn

from xray2ctpa_core.data.latent_cases import LatentCase
from xray2ctpa_core.data.splits import TEST, TRAIN, VALIDATION, by_fold, by_split
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.training.arms import (
    PREDICTIONS_FILE,
    prediction_rows,
    read_rows,
    write_arm,
    write_predictions,
)
from xray2ctpa_core.training.loop import Stage, train
from xray2ctpa_core.training.losses.denoising import embolism_loss
from xray2ctpa_core.training.settings.classifiers import LabelledConfig


class CaseData(Protocol):
    """A torch Dataset with a list of its cases; items hold the network's input and "label"."""

    cases: list[LatentCase]

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]: ...
    def __len__(self) -> int: ...


class LabelStage:
    """Binary cross-entropy with a weight of the positive class.

    Args:
        classifier: (B, ...) -> (B, 1) logits.
        key: key of its input in a batch.
        pos_weight: weight of cases with PE.
    """

    def __init__(self, classifier: nn.Module, key: str, pos_weight: float) -> None:
        self.module: nn.Module = classifier
        self._key, self._pos_weight = key, pos_weight

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        logits = module(batch[self._key])
        loss = embolism_loss(logits, batch["label"], self._pos_weight).mean()
        right = ((logits.detach().squeeze(1) > 0) == (batch["label"] > 0.5)).float().mean()
        return loss, {"accuracy": right}


def train_and_predict(
    config: LabelledConfig,
    cases: Sequence[LatentCase],
    build: Callable[[], nn.Module],
    data_of: Callable[[Sequence[LatentCase], bool], CaseData],
    key: str,
    save: Callable[[nn.Module, Path], None],
    out: Path,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    stage_of: Callable[[nn.Module, float], Stage] | None = None,
    more_folds: bool = False,
) -> None:
    """Trains one classifier for each fold (or one on the data's own split) and writes its predictions for the
    validation and test cases.

    A finished fold is not trained again. ``out`` becomes an arm: arm.json and predictions.csv.

    Args:
        config: settings.
        cases: all cases, with labels.
        build: makes the untrained classifier.
        data_of: makes the data set of some cases; the flag switches augmentation on.
        key: key of the classifier's input in an item.
        save: writes a trained classifier into a folder.
        out: folder of the run; folds are in fold-0, fold-1, ...
        progress: as in ``train``.
        stage_of: makes the stage from the classifier and the weight of cases with PE; None takes a
            LabelStage. The stage's module must accept the input alone, too.
        more_folds: others of the run follow: ``out`` does not become an arm yet.
    """
    chosen = _chosen_folds(config)
    for fold in chosen:
        place = out / f"fold-{fold}" if config.folds else out
        if (place / PREDICTIONS_FILE).is_file():
            continue
        parts = (
            by_fold(cases, config.folds, fold, config.fold_seed)
            if config.folds
            else by_split(cases, (TRAIN, VALIDATION, TEST))
        )
        torch.manual_seed(config.seed)
        pos_weight = config.pos_weight or balance(parts[TRAIN])
        stage = stage_of(build(), pos_weight) if stage_of else LabelStage(build(), key, pos_weight)
        data: torch.utils.data.Dataset[dict[str, torch.Tensor]] = data_of(parts[TRAIN], True)  # type: ignore[assignment]
        module = train(stage, data, config, place, progress)
        if PartialState().is_main_process:
            save(module, place)
        rows = []
        for split in (VALIDATION, TEST):
            held_out = data_of(parts[split], False)
            rows += prediction_rows(
                held_out.cases, predict(module, held_out, key, config.batch_size), fold, split
            )
        if PartialState().is_main_process:
            write_predictions(place, rows)
    if more_folds or not PartialState().is_main_process:
        return
    if config.folds:
        paths = sorted(
            out.glob(f"fold-*/{PREDICTIONS_FILE}"), key=lambda path: int(path.parent.name.split("-")[1])
        )
        write_predictions(out, [row for path in paths for row in read_rows(path)])
    write_arm(out, config.name or out.name, "classifier", config.dataset)


def _chosen_folds(config: LabelledConfig) -> list[int]:
    if config.folds == 0 and config.fold <= 0:
        return [0]
    if config.folds < 3 or not -1 <= config.fold < config.folds:
        raise ConfigError(
            f"Expected folds=0, or at least 3 and a fold below (-1 for all), got {config.folds} and "
            f"{config.fold}."
        )
    return list(range(config.folds)) if config.fold < 0 else [config.fold]


def balance(cases: Sequence[LatentCase]) -> float:
    """Number of cases without PE over that with PE; 1 where either is 0."""
    positive = sum(bool(case.label) for case in cases)
    negative = sum(case.label == 0 for case in cases)
    return negative / positive if positive and negative else 1.0


@torch.no_grad()
def predict(classifier: nn.Module, data: CaseData, key: str, batch_size: int) -> np.ndarray:
    """(N,) float64 probabilities of PE of all cases in order, computed on the classifier's device."""
    device = next(classifier.parameters()).device
    scores: list[float] = []
    for start in range(0, len(data), batch_size):
        places = range(start, min(start + batch_size, len(data)))
        batch = torch.stack([data[(place, 0)][key] for place in places]).to(device)
        scores += classifier(batch).float().squeeze(1).sigmoid().tolist()
    return np.array(scores)
