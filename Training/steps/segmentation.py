"""Self-supervised pre-training of a segmenter, and its fine-tuning by cross-validation."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import write_json, write_text_atomically
from xray2ctpa_core.data.segmentation_cases import (
    SegmentationCase,
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

    All cases of a patient are in one fold. dice.json holds for each class the Dice of every case, from the
    fold in which it was held out, and their mean; the mean over all classes; and the patient of every case.
    """
    cases, classes = read_segmentation_cases(Path(config.data), config.cases)
    found: dict[str, list[float]] = {}
    for fold, tested in enumerate(folded(cases, config.folds, config.fold_seed)):
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
    report = summary(found, classes[1:]) | {"patients": {case.name: case.patient for case in cases}}
    write_json(out / DICE_FILE, report)


def folded(cases: Sequence[SegmentationCase], folds: int, seed: int) -> list[list[SegmentationCase]]:
    """The cases of each fold: patients are dealt in an order drawn from ``seed``.

    Raises:
        ConfigError: fewer patients than folds.
    """
    patients = list(dict.fromkeys(case.patient for case in cases))
    if len(patients) < folds:
        raise ConfigError(f"Expected at least {folds} patients for as many folds, got {len(patients)}.")
    order = np.random.default_rng(seed).permutation(len(patients))
    held_out = [{patients[number] for number in order[fold::folds]} for fold in range(folds)]
    return [[case for case in cases if case.patient in some] for some in held_out]


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
    """Writes ``out``/table.md: for each arm the mean over patients of the Dice over classes, and its
    difference from the first arm on the same patients, with 95 % t intervals."""
    arms = {name: _dice(Path(folder)) for name, _, folder in (arm.partition("=") for arm in config.arms)}
    first, *_ = arms.values()
    lines = ["| pre-training | patients | Dice | more than the first |", "|---|---|---|---|"]
    for name, found in arms.items():
        if found.keys() != first.keys():
            raise InputError(
                f"Expected one set of patients in all arms, got others in {name}.",
                "Run them on the same data.",
            )
        values, of_first = (np.array([arm[patient] for patient in sorted(first)]) for arm in (found, first))
        more = "-" if found is first else mean_interval(values - of_first).text(3)
        lines.append(f"| {name} | {len(found)} | {mean_interval(values).text(3)} | {more} |")
    write_text_atomically(out / TABLE_FILE, "\n".join(lines) + "\n")


def _dice(folder: Path) -> dict[str, float]:
    """Each patient's mean over cases of the mean Dice over the classes that a case has; cases without any are
    left out."""
    path = folder / DICE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        by_patient: dict[str, list[float]] = {}
        for name, by_class in content["cases"].items():
            dice = [value for value in by_class.values() if value is not None]
            if dice:
                by_patient.setdefault(content["patients"][name], []).append(float(np.mean(dice)))
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise InputError(
            f"Expected the Dice of a run of segmentation in {path}, got {type(error).__name__}: {error}."
        ) from error
    return {patient: float(np.mean(values)) for patient, values in by_patient.items()}
