"""Step bundle of default.toml: assembles the bundle, fits its classifier's read-out also on generated
latents, and calibrates PE.

Patients are those of the calibration cohort and further patients of its seed, for whom only the radiograph is
made. No earlier step uses them.

python Training/train.py default --only bundle
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler

from xray2ctpa_core import config as configuration
from xray2ctpa_core import constants
from xray2ctpa_core.cli.stage import CONFIG_FILE, Bar, run_stage
from xray2ctpa_core.data.latents import read_statistics
from xray2ctpa_core.data.radiograph_cohort import DESCRIPTION_FILE
from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.data.virtual_radiographs import read_virtual_radiograph
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.explanation.gradcam import gradcam_peak
from xray2ctpa_core.metrics.calibration import Calibration, fit_platt
from xray2ctpa_core.metrics.classification import youden_threshold
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.pipelines.bundle import (
    BUNDLE_FILE,
    FULL_HEAT,
    BundleInfo,
    CXRPreprocessing,
    GeometryRule,
    LatentStatistics,
    PEOperatingPoint,
    SamplingDefaults,
    write_bundle_json,
)
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.frame import NORMALISATION, frame_image
from xray2ctpa_core.simulation.build import patient_folders, read_record
from xray2ctpa_core.simulation.patient import radiograph_patient
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.training.readout import (
    EVIDENCE_FILE,
    Evidence,
    fit_radiograph_head,
    fit_readout,
    logits_of,
    read_evidence,
)

TRAINED_ON = "{patients} virtual patients{radiographs} (deformations of one template CT); {real}"
NO_REAL_RADIOGRAPHS = "no real patient but the template"
INTENDED_USE = (
    "Demonstration of the software and research on virtual patients. Not for patient care: a generated CTPA "
    "is a hypothesis, never a diagnosis."
)
#: Quantile of the largest heat in the volumes of calibration patients that is mapped to 1.
FULL_HEAT_QUANTILE = 0.75


@dataclass(frozen=True)
class Config:
    """Folders of earlier steps (xray_encoder: of xray-encoder, or of real-radiograph-encoder); name and
    version of the bundle; its default sampler and steps; patients: number of patients for calibration;
    heat_patients: number of the first of them for the scale of Grad-CAM."""

    run: str = "runs/default"
    denoiser: str = "runs/default/denoiser"
    xray_encoder: str = "runs/default/xray-encoder"
    lung_locator: str = "runs/default/lung-locator/lung_locator"
    name: str = constants.DEFAULT_BUNDLE
    version: str = "0.7.0"
    scheduler: str = "dpm++"
    steps: int = 10
    temperature: float = 0.3
    map_spread: float = 0.75
    alignment: int = 25
    patients: int = 320
    heat_patients: int = 100
    seed: int = 1


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes the bundle ``out``, calibrated; a bundle there is replaced when the new one is complete.

    The configuration is saved beside the bundle, which contains only the files that its description lists.
    """
    replace_bundle(config, out, lambda partial: calibrate(config, partial))


def replace_bundle(config: Any, out: Path, make: Callable[[Path], None]) -> None:
    """Has a bundle made beside ``out`` and puts it there when it is complete; saves the configuration beside
    it. Raises InputError where ``out`` holds anything but a bundle."""
    others = {p.name for p in out.iterdir()} - {CONFIG_FILE} if out.is_dir() else set()
    if others and BUNDLE_FILE not in others:
        raise InputError(f"Expected {out} to be new or a bundle, it holds {', '.join(sorted(others))}.")
    configuration.save(config, out.with_name(f"{out.name}-{CONFIG_FILE}"))
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    make(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


def calibrate(config: Config, out: Path) -> None:
    """Assembles ``out``, then fits its PE read-outs on patients that no network was trained on: weights,
    probability and threshold of the classifier on generated latents, the X-ray encoder's PE head on the
    radiographs."""
    assemble(config, out)
    pipeline = XRay2CTPAPipeline.from_folder(out)
    if torch.cuda.is_available():
        pipeline.to("cuda")
    patients = calibration_patients(Path(config.run) / "cohort" / "calibration", config.patients)
    bar = Bar("calibration")

    kept: list[torch.Tensor] = []
    radiographs: list[tuple[torch.Tensor, float]] = []

    def generated() -> Iterator[tuple[torch.Tensor, float, list[bool]]]:
        for number, (image, record) in enumerate(patients, 1):
            latents = pipeline.sample_latents(image, 1, None, config.seed + number)
            if number <= config.heat_patients:
                kept.append(latents)
            radiographs.append((image, record["sign_probability"]))
            has = [record["pe"], *(record["signs"][sign.name] for sign in SIGNS)]
            yield latents, record["sign_probability"], has
            bar(number, config.patients)

    classifier = pipeline.pe_classifier
    evidence = read_evidence(classifier, generated())
    own = Evidence.load(Path(config.run) / "pe-classifier" / EVIDENCE_FILE)
    agreement = fit_readout(classifier, [own, evidence])
    print(
        "Correlation of the fitted with the true log-odds of PE: "
        "{:.2f} in the patients' own volumes, {:.2f} in generated ones".format(*agreement)
    )
    classifier.half().save_pretrained(out / "pe_classifier")
    fit_radiograph_head(pipeline.xray_encoder, radiographs)
    pipeline.xray_encoder.half().save_pretrained(out / "xray_encoder")
    logits = logits_of(classifier.float(), evidence)
    write_calibration(out, pipeline, logits, evidence.labels, kept)


def write_calibration(
    out: Path,
    pipeline: XRay2CTPAPipeline,
    logits: np.ndarray,
    labels: np.ndarray,
    latents: Sequence[torch.Tensor],
) -> None:
    """Writes probability, threshold and the scale of Grad-CAM into the bundle ``out``.

    Args:
        out: folder of the bundle of ``pipeline``.
        pipeline: of the calibrated classifier.
        logits, labels: (N,) of generated volumes.
        latents: of some of them, each (1, C, D, h, w).
    """
    fitted = fit_platt(logits, labels)
    if fitted.slope <= 0:  # the logits do not discriminate PE: every patient gets the prevalence
        fitted = Calibration(0.0, float(np.log(labels.mean() / (1 - labels.mean()))))
    threshold = float(youden_threshold(labels, fitted.probability(logits)))
    point = PEOperatingPoint(
        threshold=min(max(threshold, 1e-3), 1 - 1e-3),
        platt_a=float(fitted.slope),
        platt_b=float(fitted.intercept),
        calibrated=True,
    )
    heat = full_heat(pipeline, latents)
    print(f"Grad-CAM heat that counts as 1: {heat}")
    metrics = pipeline.bundle.metrics | ({} if heat is None else {FULL_HEAT: heat})
    write_bundle_json(out, replace(pipeline.bundle, pe=point, metrics=metrics))


def full_heat(pipeline: XRay2CTPAPipeline, latents: Sequence[torch.Tensor]) -> float | None:
    """The largest Grad-CAM heat that a quarter of generated latents (1, C, D, h, w) reach; None where all
    heat is 0.

    In volumes without visible signs the largest heat is about a tenth of that.
    """
    classifier, grid = pipeline.pe_classifier, pipeline.bundle.geometry.grid
    bar = Bar("heat")
    peaks = []
    for number, case in enumerate(latents, 1):
        peaks.append(gradcam_peak(classifier, classifier.gradcam_layer, case, grid))
        bar(number, len(latents))
    heat = float(np.quantile(peaks, FULL_HEAT_QUANTILE)) if peaks else 0.0
    return heat if heat > 0 else None


def calibration_patients(cohort: Path, count: int) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """Frames (1, 1, P, P) and records of patients 0 to count - 1: those of the cohort on disk, then further
    ones of its seed, whose radiographs are made here."""
    folders = patient_folders(cohort)[:count]
    for folder in folders:
        yield torch.from_numpy(frame_image(*read_virtual_radiograph(folder)))[None, None], read_record(folder)
    seed = read_record(folders[0])["seed"]
    for number in range(len(folders), count):
        patient = radiograph_patient(load_template(), seed, number)
        image = frame_image(patient.radiograph.pixels, patient.frame)
        yield torch.from_numpy(image)[None, None], patient.record


def assemble(config: Config, out: Path) -> None:
    """Copies the stages' networks into ``out`` in half precision and describes them, not yet calibrated."""
    stages = Path(config.run)
    parts = {
        "autoencoder": (AutoencoderKL, stages / "autoencoder" / "autoencoder"),
        "denoiser": (SpatialDenoiser, Path(config.denoiser) / "denoiser"),
        "xray_encoder": (XrayEncoder, Path(config.xray_encoder) / "xray_encoder"),
        "pe_classifier": (PEClassifier, stages / "pe-classifier" / "pe_classifier"),
        "lung_locator": (LungLocator, Path(config.lung_locator)),
    }
    loaded = {part: network.from_pretrained(folder).half() for part, (network, folder) in parts.items()}
    scheduler = DDPMScheduler.from_pretrained(Path(config.denoiser) / "scheduler")
    info = describe(config, stages, bool(loaded["denoiser"].config["spatial_channels"]))
    taught = TaughtRadiographs.load(Path(config.xray_encoder))
    XRay2CTPAPipeline(scheduler=scheduler, bundle=info, taught_radiographs=taught, **loaded).save_pretrained(
        out
    )


def describe(config: Config, stages: Path, spatial: bool) -> BundleInfo:
    """The content of bundle.json before calibration."""
    training = patient_folders(stages / "cohort" / "train")
    sides = [read_record(folder)["frame_side_mm"] for folder in training]
    window = json.loads((stages / "autoencoder" / "config.json").read_text(encoding="utf-8"))["hu_window"]
    mean, std = read_statistics(stages / "latents")
    real = TaughtRadiographs.load(Path(config.xray_encoder))
    trained_on = TRAINED_ON.format(
        patients=len(training),
        radiographs=_radiographs(Path(config.xray_encoder)),
        real=NO_REAL_RADIOGRAPHS if real is None else f"the X-ray encoder also on {real}",
    )
    return BundleInfo(
        name=config.name,
        version=config.version,
        licence="Apache-2.0",
        trained_on=trained_on,
        intended_use=INTENDED_USE,
        is_demonstration=True,
        hu_window=tuple(window),
        conditioning="spatial" if spatial else "global",
        geometry=GeometryRule(
            grid=constants.DEFAULT_GRID,
            mean_frame_side_mm=round(float(np.mean(sides)), 1),
            depth_fraction=constants.DEPTH_FRACTION,
            source_to_detector_mm=constants.SOURCE_TO_DETECTOR_MM,
            detector_to_centre_mm=constants.DETECTOR_TO_CENTRE_MM,
        ),
        cxr=CXRPreprocessing(constants.FRAME_MARGIN, constants.FRAME_PIXELS, NORMALISATION),
        sampling=SamplingDefaults(
            config.scheduler,
            config.steps,
            1,
            config.temperature,
            config.map_spread,
            config.alignment,
        ),
        latents=LatentStatistics(tuple(mean.flatten().tolist()), tuple(std.flatten().tolist())),
        pe=PEOperatingPoint(0.5, 1.0, 0.0, False),
    )


def _radiographs(encoder: Path) -> str:
    """Text about the virtual patients without volumes on whose radiographs the X-ray encoder was trained."""
    used = json.loads((encoder / CONFIG_FILE).read_text(encoding="utf-8"))["radiographs"]
    if not used:
        return ""
    description = json.loads((Path(used) / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    return f" and the radiographs of {description['patients']} more"


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"patients": 4, "steps": 1}))
