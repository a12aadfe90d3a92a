"""The numbers of one unseen patient: baselines, reconstruction, samples, Grad-CAM and PE logits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.baselines import INDEX_PIXELS, Baselines
from xray2ctpa_core.evaluation.images import ImageMeter
from xray2ctpa_core.evaluation.lobes import clot_lobe_share
from xray2ctpa_core.evaluation.patients import CohortPatient
from xray2ctpa_core.evaluation.protocol import (
    EvaluatedPipeline,
    to_array,
    to_number,
    volumes_id,
    weights_id,
)
from xray2ctpa_core.evaluation.store import Row, RowStore
from xray2ctpa_core.metrics.features import FeatureNetwork
from xray2ctpa_core.metrics.perceptual import LPIPSDistance, PerceptualDistance

#: Part of every row's key; raised when a number's definition changes, so that old rows are not reused.
MEASURES = "2"
MEAN_VOLUME, NEAREST = "mean training volume", "nearest training radiograph"
BASELINES = (MEAN_VOLUME, NEAREST)
TRUTH, RECONSTRUCTION, ONE_SAMPLE = "the patient's own CTPA", "autoencoder reconstruction", "one sample"


def mean_of(samples: int) -> str:
    """Name of the method that averages ``samples`` volumes."""
    return f"mean of {samples} samples"


@dataclass(frozen=True)
class Bench:
    """What every patient's rows share.

    Attributes:
        train: identity of the training patients, part of the baselines' keys.
        baselines: over the training patients.
        store: of rows already measured.
        perceptual, lpips: distances of axial slices; LPIPS where its weights are available.
        networks: by metric (fvd, fid) asked for.
        samples: of the averaged method.
        steps: sampling steps, None for the bundle's own.
        seed: of the evaluation; each patient's own is derived from it.
    """

    train: str
    baselines: Baselines
    store: RowStore
    perceptual: PerceptualDistance
    lpips: LPIPSDistance | None
    networks: Mapping[str, FeatureNetwork]
    samples: int
    steps: int | None
    seed: int


class PatientRows:
    """Rows of one patient, each taken from the store or measured and kept there.

    Args:
        patient: its files are read only where a row is missing.
        bench: what all patients share.
    """

    def __init__(self, patient: CohortPatient, bench: Bench) -> None:
        self._patient, self._bench = patient, bench
        self._meters: dict[tuple[float, float], ImageMeter] = {}
        self._once: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def images(self, name: str, pipeline: EvaluatedPipeline, several: bool) -> list[Row]:
        """One row a volume: both baselines, the truth's own correlation, reconstruction, samples.

        Args:
            name: of the bundle, in the rows.
            pipeline: that makes the volumes; its bundle's HU window is measured in.
            several: whether to measure the mean of several samples, too.
        """
        window = _window(pipeline)
        by_window = f"{self._bench.train}{window}"
        by_weights = self._sampling(volumes_id(pipeline.bundle))
        makers = {
            MEAN_VOLUME: (by_window, partial(self._mean_volume, window)),
            NEAREST: (by_window, partial(self._nearest, window)),
            TRUTH: ("", partial(self._truth, window)),
            RECONSTRUCTION: (by_weights, partial(self._reconstruction, pipeline)),
            ONE_SAMPLE: (by_weights, partial(self._one_sample, pipeline)),
        }
        if several:
            makers[mean_of(self._bench.samples)] = (by_weights, partial(self._mean_of_samples, pipeline))
        names = {"kind": "image", "bundle": name, "patient": self._patient.name}
        return [
            names | {"method": method} | self._bench.store.get(self._key("image", method, rest), make)
            for method, (rest, make) in makers.items()
        ]

    def classification(self, name: str, pipeline: EvaluatedPipeline) -> Row:
        """PE, its probability by the signs, whether there are any; logits of real latents, generated latents
        and radiograph alone, and the greatest value of the generated latents' Grad-CAM."""
        row = self._bench.store.get(
            self._key("pe", "logits and heat", self._sampling(weights_id(pipeline.bundle))),
            partial(self._logits, pipeline),
        )
        record = self._patient.record
        known = {
            "pe": self._patient.pe,
            "sign_probability": float(record["sign_probability"]),
            "signs": any(record["signs"].values()),
        }
        return {"kind": "pe", "bundle": name, "patient": self._patient.name} | known | row

    def heat(self, name: str, pipeline: EvaluatedPipeline) -> list[Row]:
        """Where one sample's Grad-CAM lies: a row, or none for patients without clots."""
        if not self._patient.clot_lobes:
            return []
        row = self._bench.store.get(
            self._key("gradcam", ONE_SAMPLE, self._sampling(weights_id(pipeline.bundle))),
            partial(self._heat_share, pipeline),
        )
        return [{"kind": "gradcam", "bundle": name, "patient": self._patient.name} | row]

    def _mean_volume(self, window: tuple[float, float]) -> Row:
        return self._measure(window, self._bench.baselines.mean)

    def _nearest(self, window: tuple[float, float]) -> Row:
        image = self._patient.frame_image(INDEX_PIXELS)
        return self._measure(window, self._bench.baselines.nearest(image).hu)

    def _truth(self, window: tuple[float, float]) -> Row:
        meter, hu = self._meter(window), self._patient.hu
        return {"film_correlation": meter.film_correlation(hu)} | meter.features(hu)

    def _reconstruction(self, pipeline: EvaluatedPipeline) -> Row:
        with torch.no_grad():
            decoded = pipeline.decode(self._encoded(pipeline))
        return self._measure(_window(pipeline), to_array(decoded)[0])

    def _one_sample(self, pipeline: EvaluatedPipeline) -> Row:
        samples, _ = self._sample_once(pipeline)
        return self._measure(_window(pipeline), samples[0])

    def _heat_share(self, pipeline: EvaluatedPipeline) -> Row:
        _, gradcam = self._sample_once(pipeline)
        share = clot_lobe_share(gradcam, self._patient.organs, self._patient.clot_lobes)
        return {} if share is None else {f"gradcam_{key}": value for key, value in asdict(share).items()}

    def _mean_of_samples(self, pipeline: EvaluatedPipeline) -> Row:
        samples, _ = self._generate(pipeline, self._bench.samples)
        return self._measure(_window(pipeline), samples.mean(axis=0))

    def _logits(self, pipeline: EvaluatedPipeline) -> Row:
        pixels = torch.from_numpy(self._patient.frame_image(pipeline.bundle.cxr.frame_pixels))
        image = pixels[None, None].to(pipeline.device)
        with torch.no_grad():
            real = pipeline.classify(self._encoded(pipeline))
            latents = pipeline.sample_latents(image, 1, self._bench.steps, self._seed)
            generated = pipeline.classify(latents)
            film = pipeline.classify_radiograph(image)
        return {
            "real": to_number(real),
            "generated": to_number(generated),
            "radiograph": None if film is None else to_number(film),
            "heat": float(pipeline.explain(latents).max()),
        }

    def _encoded(self, pipeline: EvaluatedPipeline) -> torch.Tensor:
        """(1, C, D, h, w) latents of the patient's own CTPA."""
        return pipeline.encode(torch.from_numpy(self._patient.hu)[None].to(pipeline.device))

    def _sample_once(self, pipeline: EvaluatedPipeline) -> tuple[np.ndarray, np.ndarray]:
        """One sample and its Grad-CAM, made once for both."""
        key = weights_id(pipeline.bundle)
        if key not in self._once:
            self._once[key] = self._generate(pipeline, 1)
        return self._once[key]

    def _generate(self, pipeline: EvaluatedPipeline, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(K, D, H, W) HU samples and the (D, H, W) Grad-CAM map."""
        result = pipeline(
            self._patient.radiograph,
            frame=self._patient.frame,
            num_inference_steps=self._bench.steps,
            num_samples=count,
            generator=self._seed,
            output_samples=True,
        )
        if result.samples is None:
            raise InputError("Expected the pipeline's samples with output_samples=True, got none.")
        return to_array(result.samples), to_array(result.gradcam.array)

    def _measure(self, window: tuple[float, float], hu: np.ndarray) -> dict[str, Any]:
        meter = self._meter(window)
        return dict(meter.measure(hu)) | meter.features(hu)

    def _meter(self, window: tuple[float, float]) -> ImageMeter:
        if window not in self._meters:
            self._meters[window] = ImageMeter(
                self._patient, window, self._bench.perceptual, self._bench.lpips, self._bench.networks
            )
        return self._meters[window]

    @property
    def _seed(self) -> int:
        return self._patient.seed(self._bench.seed)

    def _sampling(self, weights: str) -> str:
        return f"{weights}/steps {self._bench.steps}/seed {self._bench.seed}"

    def _key(self, kind: str, method: str, rest: str) -> str:
        measures = MEASURES if self._bench.lpips is None else f"{MEASURES}+lpips"
        if kind == "image":
            measures = "+".join([measures, *(network.title for network in self._bench.networks.values())])
        return "/".join([measures, kind, self._patient.identity, method, rest])


def _window(pipeline: EvaluatedPipeline) -> tuple[float, float]:
    lower, upper = pipeline.bundle.hu_window
    return float(lower), float(upper)
