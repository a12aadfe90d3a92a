"""Step bundle of people.toml: assembles the bundle of a bank of atlases, fits its PE classifier to generated
volumes, and calibrates PE.

Patients are drawn as for the encoder, with seeds of which no earlier step drew.

python Training/train.py people --only bundle
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from calibrate import INTENDED_USE, replace_bundle, write_calibration
from diffusers import DDPMScheduler
from torch.nn import functional
from train_bank_encoder import batches, teaching

from xray2ctpa_core import constants
from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.models.classifiers.region_classifier import RegionClassifier
from xray2ctpa_core.models.codecs.fold_codec import FoldCodec
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.pipelines.bundle import (
    BundleInfo,
    CXRPreprocessing,
    GeometryRule,
    LatentStatistics,
    PEOperatingPoint,
    SamplingDefaults,
)
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.frame import NORMALISATION
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.training.bank_read_outs import fit_regions

TRAINED_ON = (
    "virtual patients made of the CTs of {count} people ({names}): the tissue of one in the mixed shapes of "
    "two, varied at random; no real radiograph, no real pair"
)
#: Patients of the classifier and of the calibration have seeds from here on.
_FIT_SEED, _CALIBRATION_SEED = 500_000_000, 600_000_000


@dataclass(frozen=True)
class Config:
    """people, without: as for train_bank_encoder.py; encoder, denoiser, lung_locator: folders, the last empty
    for the embedded bundle's; name and version of the bundle; its default sampler and settings; fitted:
    patients for the classifier; regions: its boxes; patients: for calibration; heat_patients: the first of
    them for the scale of Grad-CAM."""

    people: str = "runs/people-default/people"
    without: tuple[str, ...] = ()
    encoder: str = "runs/people-default/encoder/encoder"
    denoiser: str = "runs/people-default/denoiser"
    lung_locator: str = "runs/people-default/lung-locator/lung_locator"
    name: str = constants.DEFAULT_BUNDLE
    version: str = "0.8.0"
    scheduler: str = "dpm++"
    steps: int = 10
    temperature: float = 1.0
    map_spread: float = 0.3
    alignment: int = 25
    fitted: int = 1000
    regions: tuple[int, ...] = (8, 8, 8)
    patients: int = 160
    heat_patients: int = 80
    drawn_grid: tuple[int, ...] = (64, 48, 64)
    pixels: int = 256
    people_mm: float = 4.0
    batch_size: int = 8


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes the bundle ``out``, calibrated; a bundle there is replaced when the new one is complete."""

    def make(partial: Path) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        population = teaching(config.people, config.without, config.people_mm, device)
        depth, height, width = config.drawn_grid
        data = DrawnPatients(population, Shape((depth, height, width), config.pixels, (1, 1, 1)))
        assemble(config, population.names, data, partial)
        calibrate(config, data, partial)

    replace_bundle(config, out, make)


def assemble(config: Config, names: Sequence[str], data: DrawnPatients, out: Path) -> None:
    """Fits the classifier and writes the networks in half precision, not yet calibrated."""
    encoder = BankEncoder.from_pretrained(config.encoder).eval()
    classifier = RegionClassifier(config.regions)
    signs: list[torch.Tensor] = []
    lungs: list[torch.Tensor] = []
    bar = Bar("classifier")

    @torch.no_grad()
    def generated() -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        for batch in batches(data, config.fitted, config.batch_size, _FIT_SEED):
            features = encoder(batch["image"])
            person = torch.randint(encoder.config["people"], (len(batch["image"]),), generator=generator)
            yield encoder.fold(encoder.volume(features, features.template_map, person))
            signs.append(batch["signs"])
            lungs.append(functional.adaptive_avg_pool3d(batch["lungs"], (32, 32, 32)).mean((0, 1)))
            bar(sum(map(len, signs)), config.fitted)

    measures = [classifier.measures(some).detach() for some in generated()]
    fit_regions(classifier, measures, torch.cat(signs), torch.stack(lungs).mean(0))
    channels = int(np.prod(encoder.config["fold"]))
    locator = LungLocator.from_pretrained(config.lung_locator) if config.lung_locator else gate_locator()
    info = BundleInfo(
        name=config.name,
        version=config.version,
        licence="Apache-2.0",
        trained_on=TRAINED_ON.format(count=len(names), names=", ".join(names)),
        intended_use=INTENDED_USE,
        is_demonstration=True,
        hu_window=constants.DEFAULT_HU_WINDOW,
        conditioning="spatial",
        geometry=GeometryRule(
            grid=tuple(encoder.config["grid"]),
            mean_frame_side_mm=constants.MEAN_FRAME_SIDE_MM,
            depth_fraction=constants.DEPTH_FRACTION,
            source_to_detector_mm=constants.SOURCE_TO_DETECTOR_MM,
            detector_to_centre_mm=constants.DETECTOR_TO_CENTRE_MM,
        ),
        cxr=CXRPreprocessing(constants.FRAME_MARGIN, constants.FRAME_PIXELS, NORMALISATION),
        sampling=SamplingDefaults(
            config.scheduler, config.steps, 1, config.temperature, config.map_spread, config.alignment
        ),
        latents=LatentStatistics((0.0,) * channels, (1.0,) * channels),
        pe=PEOperatingPoint(0.5, 1.0, 0.0, False),
        training={"people": list(names)},
    )
    XRay2CTPAPipeline(
        autoencoder=FoldCodec(tuple(encoder.config["fold"])),
        denoiser=SpatialDenoiser.from_pretrained(Path(config.denoiser) / "denoiser").half(),
        scheduler=DDPMScheduler.from_pretrained(Path(config.denoiser) / "scheduler"),
        xray_encoder=encoder.half(),
        pe_classifier=classifier.half(),
        lung_locator=locator.half(),
        bundle=info,
    ).save_pretrained(out)


def calibrate(config: Config, data: DrawnPatients, out: Path) -> None:
    """Platt scaling, threshold, and the scale of Grad-CAM, by generated volumes of new patients."""
    pipeline = XRay2CTPAPipeline.from_folder(out)
    if torch.cuda.is_available():
        pipeline.to("cuda")
    bar = Bar("calibration")
    logits, labels, kept = [], [], []
    for batch in batches(data, config.patients, config.batch_size, _CALIBRATION_SEED):
        for image, pe in zip(batch["image"].split(1), batch["pe"].tolist(), strict=True):
            latents = pipeline.sample_latents(image, seed=len(labels))
            logits.append(float(pipeline.classify(latents)))
            labels.append(int(pe))
            if len(kept) < config.heat_patients:
                kept.append(latents)
            bar(len(labels), config.patients)
    write_calibration(out, pipeline, np.array(logits), np.array(labels), kept)


if __name__ == "__main__":
    small = {
        "fitted": 8,
        "patients": 4,
        "heat_patients": 2,
        "steps": 1,
        "drawn_grid": [16, 16, 16],
        "people_mm": 8.0,
        "batch_size": 2,
    }
    sys.exit(run_stage(__doc__, Config, run, small))
