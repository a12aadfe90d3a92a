"""Trains the default's PE classifier on latents, with masks of clots and signs or with labels only."""

from pathlib import Path

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.findings import EVIDENCE
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latents import standardised
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.training.checkpoints import has_checkpoint
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.readout import EVIDENCE_FILE, fit_readout, fit_shown, read_evidence
from xray2ctpa_core.training.settings.classifiers import EvidenceClassifierSettings
from xray2ctpa_core.training.stages.pe_classifier import PEClassifierStage


def run(config: EvidenceClassifierSettings, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/pe_classifier."""
    latents = Path(config.latents)
    cases, scaling = training_cases(read_latent_cases(latents, labelled=True), 0, 0, 1), standardised(latents)
    everyone = StudyData(cases, ("latents", "label", "findings"), scaling)
    kept = config.readout_patients if config.evidence else 0
    if not 0 <= kept < len(everyone):
        raise InputError(f"Expected readout_patients of 0 to {len(everyone) - 1}, of {latents}, got {kept}.")
    parts = ("latents", "label", *(["evidence"] if config.evidence else []))
    taught = StudyData(cases[: len(cases) - kept], parts, scaling)
    classifier = PEClassifier(
        latent_channels=taught[(0, 0)]["latents"].shape[0],
        init_features=config.init_features,
        growth_rate=config.growth_rate,
        block_config=config.block_config,
        dropout=config.dropout,
        first_stride=config.first_stride,
        evidence_maps=len(EVIDENCE) if config.evidence else 0,
    )
    stage = PEClassifierStage(classifier, config.noise)
    train(stage, taught, config, out, resume and has_checkpoint(out), Bar("PE classifier"))
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
        print(f"Findings whose presence is predicted better than by chance: {', '.join(told) or 'none'}")
        (agreement,) = fit_readout(classifier, [evidence])
        print(f"Correlation of the fitted with the true log-odds of PE: {agreement:.2f}")
        evidence.save(out / EVIDENCE_FILE)
    save_network(classifier, out / "pe_classifier")
