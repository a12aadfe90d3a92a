"""The virtual patient that ships with the package."""

from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SAMPLE_CXR = SAMPLES / "demo-patient-cxr.png"
SAMPLE_CTPA = SAMPLES / "demo-patient-ctpa.nii.gz"
SAMPLE_FACTS = SAMPLES / "demo-patient.json"
