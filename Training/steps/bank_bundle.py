"""Assembles the bundle of a bank of atlases, fits its PE classifier to generated volumes, and calibrates PE.

Patients are drawn as for the encoder, with seeds of which no earlier step drew.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from steps.calibrate import INTENDED_USE, replace_bundle, write_calibration
from steps.people import DEVICE, batches, teaching
from torch.nn import functional

from xray2ctpa_core import constants
from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.models.classifiers.region_classifier import RegionClassifier
from xray2ctpa_core.models.codecs.fold_codec import FoldCodec
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.encoders.opacities import NOISE, with_opacities
from xray2ctpa_core.models.encoders.opacity_reader import OpacityReader
from xray2ctpa_core.models.storage import in_8_bits
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
from xray2ctpa_core.training.settings.people import BankBundleSettings

TRAINED_ON = (
    "virtual patients made of the CTs of {count} people ({names}): the tissue of one in the mixed shapes of "
    "two, varied at random; no real radiograph, no real pair"
)
#: Patients of the classifier and of the calibration have seeds from here on.
_FIT_SEED, _CALIBRATION_SEED = 500_000_000, 600_000_000


def run(config: BankBundleSettings, out: Path) -> None:
    """Writes the bundle ``out``, calibrated; a bundle there is replaced when the new one is complete."""

    def make(partial: Path) -> None:
        population = teaching(config)
        data = DrawnPatients(population, Shape(config.drawn_grid, config.pixels, (1, 1, 1)))
        assemble(config, population.names, data, partial)
        calibrate(config, data, partial)

    replace_bundle(config, out, make)


def assemble(config: BankBundleSettings, names: Sequence[str], data: DrawnPatients, out: Path) -> None:
    """Fits the classifier and writes the networks, not yet calibrated, in half precision and 8 bits."""
    encoder = BankEncoder.from_pretrained(config.encoder).to(DEVICE).eval()
    reader = OpacityReader.from_pretrained(config.opacity_reader) if config.opacity_reader else None
    reader = reader and reader.to(DEVICE).eval()
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
            volumes = encoder.volume(features, features.template_map, person)
            if reader is not None:
                noise = torch.randn(len(person), *NOISE, generator=generator).to(DEVICE)
                shares = reader.shares(batch["image"])
                volumes = with_opacities(volumes, shares, noise, constants.DEFAULT_HU_WINDOW)
            yield encoder.fold(volumes).cpu()
            signs.append(batch["signs"].cpu())
            lungs.append(functional.adaptive_avg_pool3d(batch["lungs"], (32, 32, 32)).mean((0, 1)).cpu())
            bar(sum(map(len, signs)), config.fitted)

    measures = [classifier.measures(some).detach() for some in generated()]
    fit_regions(classifier, measures, torch.cat(signs), torch.stack(lungs).mean(0))
    channels = int(np.prod(encoder.config["fold"]))
    info = BundleInfo(
        name=config.name,
        version=config.version,
        licence="Apache-2.0",
        trained_on=config.trained_on or TRAINED_ON.format(count=len(names), names=", ".join(names)),
        intended_use=INTENDED_USE,
        is_demonstration=True,
        hu_window=constants.DEFAULT_HU_WINDOW,
        conditioning="spatial",
        geometry=GeometryRule.of_mean_patient(tuple(encoder.config["grid"])),
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
        denoiser=BankDenoiser.from_pretrained(Path(config.denoiser) / "denoiser").half(),
        scheduler=DDPMScheduler.from_pretrained(Path(config.denoiser) / "scheduler"),
        xray_encoder=encoder.cpu().half(),
        pe_classifier=classifier.half(),
        lung_locator=gate_locator(config.lung_locator).half(),
        bundle=info,
        opacity_reader=reader and in_8_bits(reader.cpu()),
    ).save_pretrained(out)


def calibrate(config: BankBundleSettings, data: DrawnPatients, out: Path) -> None:
    """Platt scaling, threshold, and the scale of Grad-CAM, by generated volumes of new patients."""
    pipeline = XRay2CTPAPipeline.from_folder(out)
    pipeline.to(DEVICE)
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
