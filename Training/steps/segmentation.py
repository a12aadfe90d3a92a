"""Self-supervised pre-training of a segmenter, and its fine-tuning by cross-validation."""

import json
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import write_json, write_text_atomically
from xray2ctpa_core.data.segmentation_cases import (
    SegmentationCrops,
    read_segmentation_case,
    read_segmentation_cases,
)
from xray2ctpa_core.data.volumes import CropDataset, training_volumes
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.metrics.intervals import mean_interval
from xray2ctpa_core.models.segmentation.segmenter import Segmenter
from xray2ctpa_core.models.segmentation.self_supervision import SelfSupervised
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.segmentation import (
    DiceTableSettings,
    PretrainingSettings,
    SegmentationSettings,
)
from xray2ctpa_core.training.stages.pretraining import PretrainingStage
from xray2ctpa_core.training.stages.segmentation import SegmentationStage, dice_of_classes, segmented

DICE_FILE, TABLE_FILE = "dice.json", "table.md"


def pretrain(config: PretrainingSettings, out: Path) -> None:
    """Trains and saves ``out``/segmenter; its last layer is untrained."""
    if config.crop[1] != config.crop[2]:
        raise ConfigError(f"Expected crops as wide as high, which are turned, got {tuple(config.crop)}.")
    model = SelfSupervised(Segmenter(config.network, 2, config.feature_size))
    files = training_volumes(Path(config.studies), config.patients)
    data = CropDataset(files, config.hu_window, config.crop)
    stage = PretrainingStage(model, config)
    train(stage, data, config, out, Bar("pre-training"))
    save_network(model.segmenter, out / "segmenter")


def cross_validate(config: SegmentationSettings, out: Path) -> None:
    """Trains one segmenter for each fold and saves it in ``out``/fold-N; writes ``out``/dice.json last.

    dice.json holds for each class the Dice of every case, from the fold in which it was held out, and their
    mean; and the mean over all classes.
    """
    cases, classes = read_segmentation_cases(Path(config.data), config.cases)
    if len(cases) < config.folds:
        raise ConfigError(f"Expected at least {config.folds} cases for as many folds, got {len(cases)}.")
    order = np.random.default_rng(config.fold_seed).permutation(len(cases))
    found: dict[str, list[float]] = {}
    for fold in range(config.folds):
        tested = [cases[place] for place in order[fold :: config.folds]]
        taught = [case for case in cases if case not in tested]
        place = out / f"fold-{fold}"
        if not (place / "segmenter").is_dir():
            torch.manual_seed(config.seed)
            segmenter = Segmenter(config.network, len(classes), config.feature_size)
            if config.start:
                segmenter.start_from(load_part(config.start))
            data = SegmentationCrops(taught, config.hu_window, config.crop)
            train(SegmentationStage(segmenter), data, config, place, Bar(f"fold {fold}"))
            save_network(segmenter, place / "segmenter")
        segmenter = load_part(place / "segmenter")
        for case in tested:
            volume, label = read_segmentation_case(case, config.hu_window)
            prediction = segmented(segmenter, volume, config.crop)
            found[case.name] = dice_of_classes(prediction, label[0].numpy(), len(classes))
    write_json(out / DICE_FILE, summary(found, classes[1:]))


def summary(found: dict[str, list[float]], classes: list[str]) -> dict[str, object]:
    """Dice by case and class, means of the classes, and their mean; classes that a case lacks are left
    out."""
    table = np.array([found[name] for name in sorted(found)])
    means = {name: float(np.nanmean(table[:, column])) for column, name in enumerate(classes)}
    by_case = {
        name: {c: None if np.isnan(d) else d for c, d in zip(classes, found[name], strict=True)}
        for name in sorted(found)
    }
    return {"cases": by_case, "classes": means, "mean": float(np.mean(list(means.values())))}


def dice_table(config: DiceTableSettings, out: Path) -> None:
    """Writes ``out``/table.md: for each arm the mean over cases of the Dice over classes, and its difference
    from the first arm on the same cases, with 95 % t intervals."""
    arms = {name: _dice(Path(folder)) for name, _, folder in (arm.partition("=") for arm in config.arms)}
    first, *_ = arms.values()
    lines = ["| pre-training | cases | Dice | more than the first |", "|---|---|---|---|"]
    for name, found in arms.items():
        if found.keys() != first.keys():
            raise InputError(
                f"Expected one set of cases in all arms, got others in {name}.", "Run them on the same data."
            )
        values, of_first = (np.array([arm[case] for case in sorted(first)]) for arm in (found, first))
        more = "-" if found is first else mean_interval(values - of_first).text(3)
        lines.append(f"| {name} | {len(found)} | {mean_interval(values).text(3)} | {more} |")
    write_text_atomically(out / TABLE_FILE, "\n".join(lines) + "\n")


def _dice(folder: Path) -> dict[str, float]:
    """Mean Dice over the classes that each case of a run has; cases without any are left out."""
    path = folder / DICE_FILE
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        dice = {name: [d for d in by_class.values() if d is not None] for name, by_class in cases.items()}
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise InputError(f"Expected the Dice of a run of segmentation in {path}, got: {error}.") from error
    return {name: float(np.mean(values)) for name, values in dice.items() if values}
