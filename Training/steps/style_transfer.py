"""Trains the style transfer between real and computed radiographs, and applies it to a folder of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import write_json
from xray2ctpa_core.data.cases import CASE_FILE, TABLE_FILE, case_rows, save_array
from xray2ctpa_core.data.cxr_cases import CXR_FILE
from xray2ctpa_core.data.unpaired_radiographs import UnpairedRadiographs, read_unit_radiograph
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.style_transfer import RestyleSettings, StyleTransferSettings
from xray2ctpa_core.training.stages.style_transfer import Judges, StyleTransferStage, Translators, lungs_kept

#: Dice overlap of each radiograph's lungs before and after translation, and the mean.
ANATOMY_FILE = "anatomy.json"


def run(config: StyleTransferSettings, out: Path) -> None:
    """Trains and saves ``out``/to_real and ``out``/to_computed."""
    data = UnpairedRadiographs(Path(config.real), Path(config.computed))
    pixels = data[(0, 0)]["real"].shape[-1]
    translators = Translators(config.width, config.blocks)
    judges = Judges(pixels, config.discriminator_layers, config.discriminator_width)
    stage = StyleTransferStage(translators, config, judges, config.opponent_rate)
    train(stage, data, config, out, Bar("style transfer"))
    save_network(translators.to_real, out / "to_real")
    save_network(translators.to_computed, out / "to_computed")


def restyle(config: RestyleSettings, out: Path) -> None:
    """Writes the radiographs of another folder in the other style: cases/, anatomy.json and, last, cases.csv.

    Raises:
        InputError: the lungs of a radiograph overlap too little.
    """
    translator: StyleTransfer = load_part(config.translator)
    lungs = lungs_of(gate_locator(config.lung_locator))
    rows = case_rows(Path(config.radiographs))
    bar, kept = Bar("restyled"), {}
    for number, row in enumerate(rows, 1):
        source = Path(config.radiographs) / row["folder"]
        image = read_unit_radiograph(source / CXR_FILE, row["id"])[None]
        with torch.no_grad():
            translated = translator(image)
        kept[row["id"]] = float(lungs_kept(lungs, image, translated))
        folder = out / row["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        save_array(translated[0, 0].numpy(), folder / CXR_FILE)
        shutil.copyfile(source / CASE_FILE, folder / CASE_FILE)
        bar(number, len(rows))
    anatomy = {"lung_dice": kept, "mean": float(np.mean(list(kept.values())))}
    write_json(out / ANATOMY_FILE, anatomy)
    worst = min(kept, key=lambda name: kept[name])
    if kept[worst] < config.least_dice:
        raise InputError(
            f"Expected lungs that overlap by {config.least_dice} before and after the transfer, got "
            f"{kept[worst]:.2f} of {worst}.",
            "Train the style transfer longer, or set least_dice lower.",
        )
    shutil.copyfile(Path(config.radiographs) / TABLE_FILE, out / TABLE_FILE)


def lungs_of(locator: LungLocator) -> Callable[[torch.Tensor], torch.Tensor]:
    """(B, 1, P, P) in [0, 1] -> (B, 1, size, size) bool, the locator's mask of both lungs."""
    size = int(locator.config["size"])

    @torch.no_grad()
    def masks(images: torch.Tensor) -> torch.Tensor:
        resized = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return (locator(resized).mask_logits > 0).any(1, keepdim=True)

    return masks
