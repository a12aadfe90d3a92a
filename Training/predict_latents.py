"""What a trained latent classifier says of latents, real or generated: an arm of the tables.

python Training/predict_latents.py --out runs/virtual/loss-l1-pe --set name=loss-l1 dataset=virtual \\
    classifier=runs/virtual/classifier/pe_classifier latents=runs/virtual/loss-l1

The arm that generated the latents may have the same name: the tables then show both in one row.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from xray2ctpa_core.cli.stage import run_stage
from xray2ctpa_core.data.latent_cases import LatentCases, read_latent_cases
from xray2ctpa_core.data.splits import TEST, VALIDATION, by_split
from xray2ctpa_core.diffusion.latent_scaling import load_scaling
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.training.arms import prediction_rows, write_arm, write_predictions
from xray2ctpa_core.training.stages.labelled import predict


@dataclass(frozen=True)
class Config:
    """classifier: pe_classifier folder of train_paper_classifier.py; latents: folder of encode_latents.py or
    generate_latents.py, with cases to test and, for thresholds, to validate; batch_size: has no influence on
    the results; name, dataset: of the arm."""

    classifier: str = "runs/paper/classifier/pe_classifier"
    latents: str = "runs/paper/generated"
    batch_size: int = 8
    name: str = ""
    dataset: str = ""


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - made in a minute
    """Writes predictions.csv of validation and test cases, and arm.json."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = PEClassifier.from_pretrained(config.classifier, use_safetensors=True).to(device).eval()
    scaling, latents = load_scaling(Path(config.classifier)), Path(config.latents)
    parts = by_split(read_latent_cases(latents, labelled=True), (TEST,))
    rows = []
    for split in (VALIDATION, TEST):
        if parts[split]:
            data = LatentCases(latents, parts[split], scaling)
            scores = predict(classifier, data, "latents", config.batch_size)
            rows += prediction_rows(data.cases, scores, 0, split)
    write_predictions(out, rows)
    write_arm(out, config.name or out.name, "classifier", config.dataset)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {}))
