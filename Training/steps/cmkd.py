"""CMKD (MICCAI 2025) and the methods it is compared with: PE from a radiograph, trained with CTPA.

All methods use the same folds by patient, so that the tables compare them by paired DeLong tests; thresholds
are chosen on validation patients. For pre-training on computed radiographs run with folds=0 on their data,
then with start=THAT RUN. AFT-KD is our reading of it.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import replacing
from xray2ctpa_core.data.cases import SETTINGS_FILE
from xray2ctpa_core.data.latent_cases import LatentCase
from xray2ctpa_core.data.slice_features import EmbeddingPairs, PairedCases, read_feature_cases, read_slices
from xray2ctpa_core.data.splits import TEST, TRAIN, VALIDATION, by_fold, by_split
from xray2ctpa_core.diffusion.prior_readout import PriorReadout
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.tables.arms import FEATURES_FILE
from xray2ctpa_core.models.classifiers.embedding_classifier import EmbeddingClassifier
from xray2ctpa_core.models.classifiers.slice_transformer import SliceTransformer
from xray2ctpa_core.models.weights import load_tensors, save_tensors
from xray2ctpa_core.pipelines.encoders import make_encoder
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.pipelines.prior_opinion import load_prior_opinion, save_prior_opinion
from xray2ctpa_core.pipelines.second_opinion import OpinionSettings, calibrated
from xray2ctpa_core.training.loop import save_network
from xray2ctpa_core.training.settings.cmkd import CMKDSettings
from xray2ctpa_core.training.stages.discom import DisentangledPair, DisentanglingStage, Modality
from xray2ctpa_core.training.stages.distillation import DistillationStage, student_of
from xray2ctpa_core.training.stages.embedding_prior import EmbeddingPriorStage
from xray2ctpa_core.training.stages.labelled import train_and_predict
from xray2ctpa_core.training.stages.prior_setup import make_readout, measure_variance

TEACHER, STUDENT, WEIGHTS_FILE = "teacher", "student", "weights.safetensors"
#: Settings of the step radiographs that a second opinion needs.
_READING = ("input", "mean", "std", "keep_aspect")


def run(config: CMKDSettings, out: Path) -> None:
    """Trains one fold after another; writes each fold's network, the arm's predictions and features.npz."""
    if config.method != "ctpa" and not config.radiographs:
        raise ConfigError(f"The method {config.method} needs radiographs, the folder of that step, got none.")
    cases = read_feature_cases(Path(config.features))
    folds = range(config.folds) if config.folds and config.fold < 0 else [max(config.fold, 0)]
    made = [Fold(dataclasses.replace(config, fold=fold), cases, fold, out) for fold in folds]
    for fold in made:
        fold.train(more_folds=fold is not made[-1])
    made[0].write_features()


class Fold:
    """One fold's networks and data."""

    def __init__(self, config: CMKDSettings, cases: list[LatentCase], fold: int, out: Path) -> None:
        self.config, self.cases, self.fold, self.out = config, cases, fold, out
        self.first = read_slices(cases[0])
        self.longest = max(len(read_slices(case)) for case in cases)

    def train(self, more_folds: bool) -> None:
        """Trains, saves, predicts; a run is an arm, and finished, only after its last fold."""
        config = self.config
        key = {"ctpa": "slices", "prior": "embedding"}.get(config.method, "image")
        stage_of = {"ctpa": None, "cxr": None, "discom": DisentanglingStage, "prior": self._prior_stage}.get(
            config.method, self._distilling
        )
        bar = Bar(f"{config.method}, fold {self.fold}")
        train_and_predict(
            config,
            self.cases,
            self._build,
            self._data,
            key,
            self._save,
            self.out,
            bar,
            stage_of,
            more_folds,
        )

    @torch.no_grad()
    def write_features(self) -> None:
        """Writes ``out``/features.npz, the embeddings of this fold's test patients, for the plots of
        the tables; embeddings of different folds are not comparable. None for DisCoM-KD, whose parts have
        other lengths."""
        config, place = self.config, self._place(str(self.out))
        judged = self._part(TEST)
        if config.method == "discom" or not judged:
            return
        data = self._data_with_images(judged)
        items = [data[(number, 0)] for number in range(len(data))]
        if config.method == "ctpa":
            teacher = load_part(place / TEACHER)
            vectors = [teacher.embed(item["slices"][None]) for item in items]
        elif config.method == "prior":
            reader: Any = load_prior_opinion(place / "second_opinion").network
            vectors = [reader.readout.draw(reader.student.embed(i["image"][None])).mean(1) for i in items]
        else:
            student = load_part(place / STUDENT)
            vectors = [student.embed(item["image"][None]) for item in items]
        with replacing(self.out / FEATURES_FILE) as partial:
            np.savez(
                partial,
                features=torch.cat(vectors).numpy(),
                patient=np.array([case.patient for case in data.cases]),
                label=np.array([case.label for case in data.cases]),
            )

    def _build(self) -> nn.Module:
        config = self.config
        if config.method == "ctpa":
            made: nn.Module = self._slice_transformer(config.embedding_dim)
        elif config.method == "prior":
            pairs = self._pairs(self._part(TRAIN))
            head = self._of(config.teacher, TEACHER).head
            made = make_readout(config, head, pairs)
            self.training_pairs = pairs
        elif config.method == "discom":
            made = DisentangledPair(
                Modality(make_encoder(config), make_encoder(config), config.small_dim),
                Modality(_Slices(self._slice_transformer(256)), _Slices(self._slice_transformer(256)), 256),
            )
        else:
            made = EmbeddingClassifier.on(make_encoder(config), config.embedding_dim, config.dropout)
        if config.start:
            trained = made.prior if config.method == "prior" else made
            load_tensors(trained, self._place(config.start) / WEIGHTS_FILE)  # type: ignore[arg-type]
        return made

    def _slice_transformer(self, embedding_dim: int) -> SliceTransformer:
        config = self.config
        width = self.first.shape[1] if config.architecture == "dinov2" else config.width
        return SliceTransformer(
            self.first.shape[1],
            config.architecture,
            width,
            config.depth,
            config.heads,
            embedding_dim,
            config.dropout,
        )

    def _data(self, some: Sequence[LatentCase], augmented: bool) -> Any:
        config = self.config
        if config.method == "prior":
            return self._pairs(some)
        return self._data_with_images(some, config.flip if augmented else 0.0)

    def _data_with_images(self, some: Sequence[LatentCase], flip: float = 0.0) -> PairedCases:
        radiographs = None if self.config.method == "ctpa" else Path(self.config.radiographs)
        return PairedCases(some, radiographs, flip, self.longest)

    def _part(self, split: str) -> list[LatentCase]:
        config = self.config
        if config.folds:
            return by_fold(self.cases, config.folds, self.fold, config.fold_seed)[split]
        return by_split(self.cases, (TRAIN, VALIDATION))[split]

    def _distilling(self, module: nn.Module, pos_weight: float) -> DistillationStage:
        teacher = self._of(self.config.teacher, TEACHER)
        return DistillationStage(module, teacher, self.config.method, self.config, pos_weight)  # type: ignore[arg-type]

    def _prior_stage(self, module: nn.Module, pos_weight: float) -> EmbeddingPriorStage:  # noqa: ARG002
        return EmbeddingPriorStage(module, self.config)  # type: ignore[arg-type]

    @torch.no_grad()
    def _pairs(self, some: Sequence[LatentCase]) -> EmbeddingPairs:
        """Both frozen networks' embeddings of some cases."""
        student, teacher = self._of(self.config.student, STUDENT), self._of(self.config.teacher, TEACHER)
        data = PairedCases(some, Path(self.config.radiographs), 0.0, self.longest)
        items = [data[(place, 0)] for place in range(len(data))]
        embeddings = torch.cat([student.embed(item["image"][None]) for item in items])
        targets = torch.cat([teacher.embed(item["slices"][None]) for item in items])
        return EmbeddingPairs(some, embeddings, targets)

    def _of(self, run_folder: str, part: str) -> Any:
        """The frozen network ``part`` that the run saved for this fold."""
        if not run_folder:
            raise ConfigError(
                f"The method {self.config.method} needs {part}, the folder of its run, got none."
            )
        return load_part(self._place(run_folder) / part).requires_grad_(False)

    def _place(self, run_folder: str) -> Path:
        own = Path(run_folder) / f"fold-{self.fold}"
        return own if own.is_dir() else Path(run_folder)

    def _save(self, module: nn.Module, place: Path) -> None:
        config = self.config
        if config.method == "ctpa":
            save_network(module, place / TEACHER)
            save_tensors(module, place / WEIGHTS_FILE)
        elif config.method == "prior":
            readout = module.readout
            if config.sampler == "analytic":
                measure_variance(readout, self.training_pairs)
            save_tensors(readout.prior, place / WEIGHTS_FILE)  # type: ignore[arg-type]
            save_prior_opinion(
                place / "second_opinion", self._of(config.student, STUDENT), readout, self._settings(readout)
            )
        else:
            trained = student_of(module)
            save_tensors(trained, place / WEIGHTS_FILE)
            if config.method != "discom":
                save_network(trained, place / STUDENT)

    def _settings(self, readout: PriorReadout) -> OpinionSettings:
        """Settings of the prior's read-out, calibrated on the validation patients."""
        config = self.config
        held_out = self._part(VALIDATION)
        pairs = self._pairs(held_out)
        place = next(readout.prior.parameters()).device
        embeddings = torch.stack([pairs[(n, 0)]["embedding"] for n in range(len(pairs))]).to(place)
        logits = readout(embeddings).squeeze(1).cpu().double().numpy()
        settings = OpinionSettings(
            **self._reading(held_out[0]),
            steps=config.sample_steps,
            draws=config.draws,
            choice=config.choice,
            guidance_scale=config.guidance_scale,
            sampler=config.sampler,
            trained_on=config.dataset,
        )
        return calibrated(settings, logits, np.array([case.label for case in held_out]))

    def _reading(self, case: LatentCase) -> dict[str, Any]:
        """How radiographs were read for the training, as the step radiographs recorded it."""
        folder = Path(self.config.radiographs)
        made: dict[str, Any] = {
            "input": self.config.input,
            "pixels": PairedCases([case], folder)[(0, 0)]["image"].shape[-1],
        }
        if (folder / SETTINGS_FILE).is_file():
            recorded = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
            made |= {name: recorded[name] for name in _READING if name in recorded}
        return made


class _Slices(nn.Module):
    """A slice transformer, reduced to its embedding."""

    def __init__(self, network: SliceTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return self.network.embed(slices)
