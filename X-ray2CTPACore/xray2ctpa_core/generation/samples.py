"""The virtual patient that ships with the package."""

import json
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SAMPLE_CXR = SAMPLES / "demo-patient-cxr.png"
SAMPLE_CTPA = SAMPLES / "demo-patient-ctpa.nii.gz"
SAMPLE_FACTS = SAMPLES / "demo-patient.json"


def sample_facts() -> dict[str, Any]:
    """The patient's record: pe, signs, frame."""
    return json.loads(SAMPLE_FACTS.read_text(encoding="utf-8"))
