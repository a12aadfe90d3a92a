"""Stage 7: trains the PE classifier on the latents of real (here: virtual patients' own) CTPAs.

python Training/train_pe_classifier.py --out runs/default/pe-classifier
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.latents import EVIDENCE, LatentDataset
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.readout import EVIDENCE_FILE, fit_readout, fit_shown, read_evidence
from xray2ctpa_core.training.stages.pe_classifier import PEClassifierStage


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents: folder of stage 4; evidence: whether it is taught by the patients' masks of clots and signs;
    readout_patients: the last so many of the cohort, which it is not trained on, to weigh the evidence;
    noise: largest, added to standardised latents; the rest is MONAI's DenseNet."""

    latents: str = "runs/default/latents/train"
    evidence: bool = True
    readout_patients: int = 200
    init_features: int = 16
    growth_rate: int = 8
    block_config: tuple[int, ...] = (4, 4, 4)
    first_stride: tuple[int, ...] = (2, 1, 1)
    dropout: float = 0.2
    noise: float = 0.3
    steps: int = 650
    learning_rate: float = 2e-3
    weight_decay: float = 5e-2


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/pe_classifier."""
    latents = Path(config.latents)
    everyone = LatentDataset(latents, latents, augmented=False)
    kept = config.readout_patients if config.evidence else 0
    if not 0 <= kept < len(everyone):
        raise InputError(f"Expected readout_patients of 0 to {len(everyone) - 1}, of {latents}, got {kept}.")
    taught = LatentDataset(
        latents, latents, augmented=False, evidence=config.evidence, first=len(everyone) - kept
    )
    classifier = PEClassifier(
        latent_channels=taught[(0, 0)]["latents"].shape[0],
        init_features=config.init_features,
        growth_rate=config.growth_rate,
        block_config=config.block_config,
        dropout=config.dropout,
        first_stride=config.first_stride,
        evidence_maps=len(EVIDENCE) if config.evidence else 0,
    )
    train(PEClassifierStage(classifier, config.noise), taught, config, out, resume, Bar("PE classifier"))
    if kept:
        unseen = (everyone[(case, 0)] for case in range(len(taught), len(everyone)))
        volumes = (
            (
                p["latents"][None],
                float(p["sign_probability"]),
                [bool(p["label"]), *p["signs"].bool().tolist()],
            )
            for p in unseen
        )
        evidence = read_evidence(classifier, volumes)
        gains = fit_shown(classifier, evidence)
        told = [kind for kind, gain in zip(EVIDENCE, gains, strict=True) if gain]
        print(f"Kinds of evidence that it tells patients by: {', '.join(told) or 'none'}")
        (agreement,) = fit_readout(classifier, [evidence])
        print(f"Log-odds of PE by the signs, read off the evidence: correlation {agreement:.2f}")
        evidence.save(out / EVIDENCE_FILE)
    save_network(classifier, out / "pe_classifier")


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"steps": 2, "batch_size": 2, "init_features": 8}))
