"""The rows of one subject: baselines, the own CT, reconstruction, samples, Grad-CAM and PE scores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import INDEX_PIXELS, Baselines
from xray2ctpa_core.evaluation.instruments import Instruments
from xray2ctpa_core.evaluation.lobes import clot_lobe_share
from xray2ctpa_core.evaluation.patients import CohortPatient, Subject, seed_of
from xray2ctpa_core.evaluation.protocol import (
    EvaluatedPipeline,
    to_array,
    to_number,
    volumes_id,
    weights_id,
)
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.evaluation.volumes import VolumeMeter
from xray2ctpa_core.preprocessing.grid import resized, resized_affine
from xray2ctpa_core.volume import Volume

#: Part of every row's key; increased when the definition of a number changes, so that old rows are not
#: reused.
MEASURES = "4"
MEAN_VOLUME, NEAREST = "mean of other volumes", "nearest other radiograph's volume"
BASELINES = (MEAN_VOLUME, NEAREST)
TRUTH, RECONSTRUCTION, ONE_SAMPLE = "the patient's own CT", "autoencoder reconstruction", "one sample"
NOT_ALIGNED = "one sample, not aligned"


def mean_of_samples(samples: int) -> str:
    """Name of the method that averages ``samples`` volumes."""
    return f"mean of {samples} samples"


@dataclass(frozen=True)
class Bench:
    """The common settings of the rows of several subjects.

    Attributes:
        others: identity of the cases that make the baselines, part of the baselines' keys.
        baselines: of these cases; None where no volumes are compared.
        store: of measured rows.
        instruments: for volumes.
        samples: number of averaged samples.
        steps: sampling steps, None for the bundle's own.
        seed: of the evaluation; each subject's own is derived from it.
    """

    others: str
    baselines: Baselines[Any] | None
    store: RowStore
    instruments: Instruments
    samples: int
    steps: int | None
    seed: int

    @property
    def compared(self) -> Baselines[Any]:
        """The baselines; raises InputError where there are none."""
        if self.baselines is None:
            raise InputError("Expected baselines to compare volumes with, got none.")
        return self.baselines


class SubjectRows:
    """Rows of one subject, each read from the store or measured and saved there.

    Args:
        subject: its files are read only if a row is missing.
        bench: common settings of all subjects.
    """

    def __init__(self, subject: Subject, bench: Bench) -> None:
        self._subject, self._bench = subject, bench
        self._meters: dict[tuple[float, float], VolumeMeter] = {}
        self._once: dict[str, tuple[np.ndarray, np.ndarray, float | None]] = {}

    def images(self, name: str, pipeline: EvaluatedPipeline, several: bool) -> list[Row]:
        """One row for each volume: both baselines, the own CT, reconstruction, samples.

        Args:
            name: of the bundle, in the rows.
            pipeline: makes the volumes; numbers are measured in its bundle's HU window.
            several: whether to measure the mean of several samples, too.
        """
        window = _window(pipeline)
        by_window = f"{self._bench.others}{window}"
        by_weights = self._sampling(volumes_id(pipeline.bundle))
        makers: dict[str, tuple[str, Callable[[], Row]]] = {
            MEAN_VOLUME: (by_window, partial(self._mean_volume, window)),
            NEAREST: (by_window, partial(self._nearest, window)),
            TRUTH: (f"{window}", lambda: self._meter(window).truth_row()),
            RECONSTRUCTION: (by_weights, partial(self._reconstruction, pipeline)),
            ONE_SAMPLE: (by_weights, partial(self._one_sample, pipeline)),
        }
        if pipeline.bundle.sampling.alignment:
            makers[NOT_ALIGNED] = (by_weights, partial(self._not_aligned, pipeline))
        if several:
            method = mean_of_samples(self._bench.samples)
            makers[method] = (by_weights, partial(self._mean_of_samples, pipeline))
        names = {"kind": "image", "bundle": name, "patient": self._subject.name}
        return [
            names | {"method": method} | self._bench.store.get(self._key("image", method, rest), make)
            for method, (rest, make) in makers.items()
        ]

    def sample(self, pipeline: EvaluatedPipeline) -> np.ndarray:
        """(D, H, W) HU: the sample that ``images`` measures, made once."""
        return self._sample_once(pipeline)[0]

    def sampling_key(self, kind: str, pipeline: EvaluatedPipeline) -> str:
        """Key of a row of ``sample`` in the store."""
        return self._key(kind, ONE_SAMPLE, self._sampling(volumes_id(pipeline.bundle)))

    def _mean_volume(self, window: tuple[float, float]) -> Row:
        return self._meter(window).measure(self._bench.compared.mean)

    def _nearest(self, window: tuple[float, float]) -> Row:
        image = self._subject.frame_image(INDEX_PIXELS)
        return self._meter(window).measure(self._bench.compared.nearest(image).hu)

    def _reconstruction(self, pipeline: EvaluatedPipeline) -> Row:
        with torch.no_grad():
            decoded = pipeline.decode(self._encoded(pipeline))
        return self._meter(_window(pipeline)).measure(self._on_grid(to_array(decoded))[0])

    def _one_sample(self, pipeline: EvaluatedPipeline) -> Row:
        return self._meter(_window(pipeline)).measure(self._sample_once(pipeline)[0])

    def _not_aligned(self, pipeline: EvaluatedPipeline) -> Row:
        with without_alignment(pipeline):
            samples, _, _ = self._generate(pipeline, 1)
        return self._meter(_window(pipeline)).measure(samples[0])

    def _mean_of_samples(self, pipeline: EvaluatedPipeline) -> Row:
        samples, _, _ = self._generate(pipeline, self._bench.samples)
        return self._meter(_window(pipeline)).several(samples)

    def _encoded(self, pipeline: EvaluatedPipeline) -> torch.Tensor:
        """(1, C, D, h, w) latents of the own CT."""
        depth, height, width = pipeline.bundle.geometry.grid
        own = self._subject.volume
        if own.array.shape != (depth, height, width):
            own = resized(own, (depth, height, width))
        return pipeline.encode(torch.from_numpy(own.array)[None].to(pipeline.device))

    def _on_grid(self, volumes: np.ndarray) -> np.ndarray:
        """(K, D, H, W) volumes of the frame, resampled to the subject's grid if the bundle has another."""
        own = self._subject.volume
        depth, height, width = own.array.shape
        if volumes.shape[1:] == own.array.shape:
            return volumes
        shape: tuple[int, int, int] = volumes.shape[1:]  # type: ignore[assignment]
        place = resized_affine(own, shape)
        return np.stack([resized(Volume(volume, place), (depth, height, width)).array for volume in volumes])

    def _sample_once(self, pipeline: EvaluatedPipeline) -> tuple[np.ndarray, np.ndarray, float | None]:
        """One sample (D, H, W) HU, its Grad-CAM and its PE probability, made once for all rows."""
        key = weights_id(pipeline.bundle)
        if key not in self._once:
            samples, heat, probability = self._generate(pipeline, 1)
            self._once[key] = samples[0], heat, probability
        return self._once[key]

    def _generate(
        self, pipeline: EvaluatedPipeline, count: int
    ) -> tuple[np.ndarray, np.ndarray, float | None]:
        """(K, D, H, W) HU samples, the (D, H, W) Grad-CAM map and the PE probability, None without
        classifier."""
        result = pipeline(
            self._subject.radiograph,
            frame=self._subject.frame,
            num_inference_steps=self._bench.steps,
            num_samples=count,
            seed=seed_of(self._subject, self._bench.seed),
            output_samples=True,
        )
        if result.samples is None:
            raise InputError("Expected the pipeline's samples with output_samples=True, got none.")
        heat = self._on_grid(to_array(result.gradcam.array)[None])[0]
        return self._on_grid(to_array(result.samples)), heat, result.pe_probability

    def _meter(self, window: tuple[float, float]) -> VolumeMeter:
        if window not in self._meters:
            self._meters[window] = VolumeMeter(
                self._subject.volume,
                window,
                self._bench.instruments,
                self._subject.frame_image,
                enhanced=self._subject.enhanced,
            )
        return self._meters[window]

    def _sampling(self, weights: str) -> str:
        return f"{weights}/steps {self._bench.steps}/seed {self._bench.seed}"

    def _key(self, kind: str, method: str, rest: str) -> str:
        measured = self._bench.instruments.identity if kind == "image" else ""
        return "/".join([MEASURES, measured, kind, self._subject.identity, method, rest])


class PatientRows(SubjectRows):
    """Rows of a virtual patient with known PE, signs and lobes of clots."""

    def __init__(self, patient: CohortPatient, bench: Bench) -> None:
        super().__init__(patient, bench)
        self._patient = patient

    def classification(self, name: str, pipeline: EvaluatedPipeline) -> Row:
        """PE, its probability by the signs, whether there are any; the logit of real latents, probability and
        greatest Grad-CAM value of one sample, the logit of the radiograph alone; None for a head that the
        bundle does not have."""
        row = self._bench.store.get(
            self._key("pe", "scores and heat", self._sampling(weights_id(pipeline.bundle))),
            partial(self._scores, pipeline),
        )
        record = self._patient.record
        known = {
            "pe": self._patient.pe,
            "sign_probability": float(record["sign_probability"]),
            "signs": any(record["signs"].values()),
        }
        return {"kind": "pe", "bundle": name, "patient": self._patient.name} | known | row

    def heat(self, name: str, pipeline: EvaluatedPipeline) -> list[Row]:
        """The position of one sample's Grad-CAM: a row, or none for patients without clots."""
        if not self._patient.clot_lobes:
            return []
        row = self._bench.store.get(
            self._key("gradcam", ONE_SAMPLE, self._sampling(weights_id(pipeline.bundle))),
            partial(self._heat_share, pipeline),
        )
        return [{"kind": "gradcam", "bundle": name, "patient": self._patient.name} | row]

    def _heat_share(self, pipeline: EvaluatedPipeline) -> Row:
        _, heat, _ = self._sample_once(pipeline)
        share = clot_lobe_share(heat, self._patient.organs, self._patient.clot_lobes)
        return {} if share is None else {f"gradcam_{key}": value for key, value in asdict(share).items()}

    def _scores(self, pipeline: EvaluatedPipeline) -> Row:
        with torch.no_grad():
            real = pipeline.classify(self._encoded(pipeline))
        pixels = torch.from_numpy(self._patient.frame_image(pipeline.bundle.cxr.frame_pixels))
        radiograph = pipeline.classify_radiograph(pixels[None, None].to(pipeline.device))
        _, heat, probability = self._sample_once(pipeline)
        return {
            "real": to_number(real) if len(real) else None,
            "generated": probability,
            "radiograph": None if radiograph is None else to_number(radiograph),
            "heat": float(heat.max()),
        }


@contextmanager
def without_alignment(pipeline: EvaluatedPipeline) -> Iterator[None]:
    """The pipeline with a sampler that does not move the volume to agree with the radiograph."""
    own = pipeline.bundle
    pipeline.bundle = replace(own, sampling=replace(own.sampling, alignment=0))
    try:
        yield
    finally:
        pipeline.bundle = own


def _window(pipeline: EvaluatedPipeline) -> tuple[float, float]:
    lower, upper = pipeline.bundle.hu_window
    return float(lower), float(upper)
