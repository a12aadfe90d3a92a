"""Steps that preprocess CTs and radiographs of any format to the input of the networks.

For pre-training, radiographs are also computed from CTs (DiffDRR).
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import part
from xray2ctpa_core.constants import FRAME_PIXELS
from xray2ctpa_core.data.cases import CASE_FILE, case_folder, write_cases
from xray2ctpa_core.data.ctpa_cases import write_ctpa
from xray2ctpa_core.data.cxr_cases import FrameSettings, write_frame_input, write_radiograph_input
from xray2ctpa_core.data.drr_cases import DRR_FILE, write_drr
from xray2ctpa_core.data.index import INDEX_FILE, write_index
from xray2ctpa_core.data.settings import StudySource
from xray2ctpa_core.data.sources.source import read_studies
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing import ctpa as preprocessing
from xray2ctpa_core.preprocessing.cxr import CxrSettings
from xray2ctpa_core.simulation import drr as simulation
from xray2ctpa_core.training.settings.preprocessing import CtpaSettings, DrrSettings, RadiographSettings


def ctpa(config: CtpaSettings, out: Path) -> None:
    """Writes one folder with volumes for each study."""
    settings = part(preprocessing.CtpaSettings, config)
    _write(config, out, functools.partial(write_ctpa, settings), asdict(settings), "CTPA")


def radiographs(config: RadiographSettings, out: Path) -> None:
    """Writes one folder with cxr.npy for each study."""
    unread = [
        name
        for name in OF_INPUT["frame" if config.input == "whole" else "whole"]
        if getattr(config, name) != getattr(RadiographSettings, name)
    ]
    if unread:
        raise ConfigError(
            f"Expected no {', '.join(unread)} with input={config.input}, which does not use it."
        )
    if config.input == "whole":
        pixels = config.pixels or CxrSettings.pixels
        whole = CxrSettings(pixels, config.mean, config.std, config.keep_aspect)
        write = functools.partial(write_radiograph_input, whole, style=config.style)
        settings = asdict(whole)
    else:
        locator = str(resolve_bundle(config.bundle) / "lung_locator")
        pixels = config.pixels or FRAME_PIXELS
        frame = FrameSettings(locator, pixels, config.force, config.variants, config.style)
        write, settings = functools.partial(write_frame_input, frame), asdict(frame)
        settings["locator"] = config.bundle
        del settings["style"]
    _write(config, out, write, settings | _style_of(config) | {"input": config.input}, "CXR")


def _style_of(config: RadiographSettings) -> dict[str, str]:
    """Record of the style transfer: its folder, and the digest of its weights, which change what is written;
    nothing without one."""
    if not config.style:
        return {}
    weights = Path(config.style) / SAFETENSORS_WEIGHTS_NAME
    if not weights.is_file():
        raise InputError(
            f"Expected a direction of the step style-transfer in {config.style}, got no {weights.name}.",
            "Run that step first: its folder holds to_computed and to_real.",
        )
    return {"style": config.style, "style_sha256": file_sha256(weights)}


#: Settings that are used for one input only.
OF_INPUT = {"whole": ("mean", "std", "keep_aspect"), "frame": ("bundle", "force", "variants")}


def drr(config: DrrSettings, out: Path) -> None:
    """Writes one folder with the computed radiograph for each study, and studies.csv with their patients."""

    settings = part(simulation.DrrSettings, config)
    _write(config, out, functools.partial(write_drr, settings), asdict(settings), "DRR")
    folders = {study.id: case_folder(out, study.id) for study in read_studies(part(StudySource, config))}
    made = [
        replace(study, volume=None, radiograph=folders[study.id] / DRR_FILE)
        for study in read_studies(part(StudySource, config))
        if (folders[study.id] / CASE_FILE).is_file()
    ]
    write_index(out / INDEX_FILE, made)


def _write(
    config: CtpaSettings | RadiographSettings | DrrSettings,
    out: Path,
    write: Any,
    settings: Mapping[str, Any],
    title: str,
) -> None:
    """Writes one case for each study; failing ones are logged in errors.jsonl and left out."""
    studies = read_studies(part(StudySource, config))
    identity = {**settings, "dataset": config.dataset}
    workers = config.workers or os.cpu_count() or 1
    summary = write_cases(out, studies, write, identity, workers, Bar(title), config.cluster)
    print("\n".join(summary.summary_lines()))
