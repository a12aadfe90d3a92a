"""Puts the evaluated bundle into the package, with the virtual patient of `make demo`."""

import shutil
import tempfile
from pathlib import Path

from xray2ctpa_core.config import replacing
from xray2ctpa_core.generation.samples import SAMPLE_CTPA, SAMPLE_CXR, SAMPLE_FACTS
from xray2ctpa_core.pipelines.bundle import verify_bundle
from xray2ctpa_core.simulation.build import CTPA_FILE, RADIOGRAPH_FILE, RECORD_FILE, save_patient
from xray2ctpa_core.simulation.patient import make_patient
from xray2ctpa_core.simulation.template import load_template
from xray2ctpa_core.training.settings.people import ShipSettings

PACKAGE = Path(__file__).resolve().parents[2] / "X-ray2CTPACore" / "xray2ctpa_core"


def run(config: ShipSettings, out: Path) -> None:
    """Replaces bundles/NAME and the files of samples in the package."""
    out = Path(config.package) if config.package else PACKAGE
    info = verify_bundle(Path(config.bundle))
    target = out / "bundles" / info.name
    with replacing(target) as partial:
        shutil.copytree(config.bundle, partial)
    patient = make_patient(load_template(), config.sample_seed, config.sample_number)
    samples = out / "samples"
    samples.mkdir(exist_ok=True)
    names = {RADIOGRAPH_FILE: SAMPLE_CXR.name, CTPA_FILE: SAMPLE_CTPA.name, RECORD_FILE: SAMPLE_FACTS.name}
    with tempfile.TemporaryDirectory() as scratch:
        save_patient(patient, Path(scratch))
        for made, shipped in names.items():
            shutil.copyfile(Path(scratch) / made, samples / shipped)
