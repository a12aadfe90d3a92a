"""Step that classifies latents, real or generated, with a trained classifier: an arm of the tables.

The arm of the generator may have the same name; the tables then show both in one row.
"""

from pathlib import Path

import torch

from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.splits import TEST, VALIDATION, by_split
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.diffusion.latent_scaling import load_scaling
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.training.arms import prediction_rows, write_arm, write_predictions
from xray2ctpa_core.training.settings.generation import PredictSettings
from xray2ctpa_core.training.stages.labelled import predict


def run(config: PredictSettings, out: Path) -> None:
    """Writes predictions.csv of validation and test cases, and arm.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = PEClassifier.from_pretrained(config.classifier, use_safetensors=True).to(device).eval()
    scaling, latents = load_scaling(Path(config.classifier)), Path(config.latents)
    parts = by_split(read_latent_cases(latents, labelled=True), (TEST,))
    rows = []
    for split in (VALIDATION, TEST):
        if parts[split]:
            data = StudyData(parts[split], ("latents",), scaling)
            scores = predict(classifier, data, "latents", config.batch_size)
            rows += prediction_rows(data.cases, scores, 0, split)
    write_predictions(out, rows)
    write_arm(out, config.name or out.name, "classifier", config.dataset)
