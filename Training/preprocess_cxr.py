"""Radiographs of a data set (DICOM, PNG, JPEG, TIFF, NIfTI) to what an X-ray encoder reads.

input=film: the whole film, 224 x 224, normalised as in the papers, aspect kept unless keep_aspect=false.
input=frame: the lungs' frame with equalised greys, as this project's own encoders read it, after the gate.

python Training/preprocess_cxr.py --out runs/lidc/cxr --config Training/configs/paper-cxr.json \\
    --set dataset=lidc root=/data/lidc table=/data/lidc/metadata.csv
"""

import functools
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.config import part
from xray2ctpa_core.constants import DEFAULT_BUNDLE, FRAME_PIXELS
from xray2ctpa_core.data.cases import CaseWriter, write_cases
from xray2ctpa_core.data.cxr_cases import FrameSettings, write_film_input, write_frame_input
from xray2ctpa_core.data.sources.source import StudySource, read_studies
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing.cxr import CxrSettings


@dataclass(frozen=True)
class Config(StudySource):
    """What is read (StudySource). input: "film" or "frame"; pixels: along a side, 0 for the input's own.
    Of input=film: mean, std, keep_aspect (CxrSettings). Of input=frame: bundle, whose lung locator finds the
    frame; force, to take films that the gate refuses. workers: processes, 0 for one a processor."""

    input: str = "film"
    pixels: int = 0
    mean: float = CxrSettings.mean
    std: float = CxrSettings.std
    keep_aspect: bool = CxrSettings.keep_aspect
    bundle: str = DEFAULT_BUNDLE
    force: bool = False
    workers: int = 0


#: Settings that only the one input reads.
OF_INPUT = {"film": ("mean", "std", "keep_aspect"), "frame": ("bundle", "force")}


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes a folder a study; always goes on with what is there (same settings)."""
    write, settings = _writer(config)
    studies = read_studies(part(StudySource, config))
    identity = settings | {"input": config.input, "dataset": config.dataset}
    summary = write_cases(out, studies, write, identity, config.workers or os.cpu_count() or 1, Bar("CXR"))
    print("\n".join(summary.summary_lines()))


def _writer(config: Config) -> tuple[CaseWriter, dict[str, object]]:
    """What writes a case, and the settings that change its files.

    Raises:
        ConfigError: an unknown input, or a setting that only the other one reads.
    """
    if config.input not in OF_INPUT:
        raise ConfigError(f"Expected an input out of {', '.join(OF_INPUT)}, got {config.input!r}.")
    (other,) = OF_INPUT.keys() - {config.input}
    unread = [name for name in OF_INPUT[other] if getattr(config, name) != getattr(Config, name)]
    if unread:
        raise ConfigError(f"Expected settings of input={config.input}, got {', '.join(unread)} of {other}.")
    if config.input == "film":
        pixels = config.pixels or CxrSettings.pixels
        film = CxrSettings(pixels, config.mean, config.std, config.keep_aspect)
        return functools.partial(write_film_input, film), asdict(film)
    locator = str(resolve_bundle(config.bundle) / "lung_locator")
    frame = FrameSettings(locator, config.pixels or FRAME_PIXELS, config.force)
    settings: dict[str, object] = {"pixels": frame.pixels, "bundle": config.bundle, "force": frame.force}
    return functools.partial(write_frame_input, frame), settings


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"studies": 1, "workers": 1}))
