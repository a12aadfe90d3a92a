"""Evaluates bundles on unseen people and virtual patients, and writes the first one's model card.

`xray2ctpa evaluate` prints the same report for any bundle; this step also writes it into the model card and
bundle.json of the first bundle.
"""

from dataclasses import replace
from pathlib import Path

from xray2ctpa_core.cli.bars import Bars
from xray2ctpa_core.cli.evaluate import load_pipelines, write
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.config import EvaluateSettings
from xray2ctpa_core.evaluation.model_card import headline_metrics, write_card
from xray2ctpa_core.evaluation.report import markdown
from xray2ctpa_core.evaluation.run import evaluate
from xray2ctpa_core.pipelines.bundle import read_bundle_json, write_bundle_json


def run(config: EvaluateSettings, out: Path) -> None:
    """Writes evaluation.json and evaluation.md into ``out``, and the card and metrics of the first bundle."""
    if not config.bundles:
        raise ConfigError("Expected at least one bundle, got none.", "Set bundles.")
    pipelines = load_pipelines(config.bundles, "auto")
    pairs, radiographs, people, open_pairs = (
        [Path(folder) for folder in folders]
        for folders in (config.pairs, config.radiograph_folders, config.people, config.open_pair_cohorts)
    )
    with Bars() as bars:
        summary = evaluate(
            Path(config.cohort) if config.cohort else None,
            Path(config.train) if config.train else None,
            pipelines,
            config,
            pairs,
            out,
            bars.show,
            radiographs,
            people,
            open_pairs,
        )
    report = markdown(summary)
    write(out, summary, report)
    print(report)
    if config.card:
        bundle = Path(config.bundles[0])
        info = read_bundle_json(bundle)
        write_card(bundle, info, report, command(config))
        write_bundle_json(bundle, replace(info, metrics=info.metrics | headline_metrics(summary)))


def command(config: EvaluateSettings) -> str:
    """Command line that repeats the evaluation; folders of real images are replaced by placeholders."""
    words = ["xray2ctpa evaluate"]
    words += [config.cohort, "--train", config.train] if config.cohort else []
    words += ["--people PEOPLE"] * len(config.people)
    words += ["--open-pairs COHORT"] * len(config.open_pair_cohorts)
    words += [word for bundle in config.bundles for word in ("--bundle", bundle)]
    words += ["--pair PAIR"] * len(config.pairs)
    words += ["--radiographs RADIOGRAPHS"] * len(config.radiograph_folders)
    for name in ("images", "multi", "samples", "auroc", "seed"):
        words += [f"--{name}", str(getattr(config, name))]
    if config.metrics:
        words += ["--metrics", ",".join(config.metrics)] + (["--weights WEIGHTS"] if config.weights else [])
    return " ".join(words)
