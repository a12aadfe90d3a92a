"""`xray2ctpa reader-study`: makes a study from a cohort, and analyses the readers' answers."""

import argparse
import sys
from pathlib import Path
from typing import Any

from xray2ctpa_core.cli.generate import add_seed, positive
from xray2ctpa_core.config import write_json
from xray2ctpa_core.constants import DEFAULT_BUNDLE, EXIT_DONE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.result_folder import temporary_folder

#: The demo study: a cohort whose first 20 patients are 10 with and 10 without PE.
DEMO_CASES, DEMO_SEED = 20, 2057


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "reader-study",
        help="make and analyse a reader study",
        description="A reader study like X-ray2CTPA's: blinded cases in random order, read in the Slicer "
        "module X-ray2CTPA Reader Study, analysed here and compared with the paper's Table 6.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="make a study from a cohort", description=parser.description)
    make.add_argument("cohort", type=Path, metavar="COHORT", help="folder made by `xray2ctpa cohort`")
    make.add_argument("out", type=Path, metavar="STUDY", help="new folder")
    make.add_argument("--cases", type=positive, default=20, metavar="N", help="patients (default: 20)")
    make.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|DIR", help="default: %(default)s")
    add_seed(make)
    make.set_defaults(run=run_make)
    demo = actions.add_parser(
        "demo",
        help="make the demo study",
        description=f"The demo study: {DEMO_CASES} virtual patients, always the same, half of them with PE, "
        "and what the model makes of their radiographs. Takes some minutes.",
    )
    demo.add_argument("out", type=Path, metavar="STUDY", help="new folder")
    demo.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|DIR", help="default: %(default)s")
    demo.add_argument(
        "--workers", type=positive, default=1, metavar="W", help="processes (default: %(default)s)"
    )
    demo.set_defaults(run=run_demo)
    analyse = actions.add_parser("analyse", help="analyse the answers", description=parser.description)
    analyse.add_argument("study", type=Path, metavar="STUDY", help="folder of the study, with answers")
    analyse.add_argument("--truth", type=Path, metavar="DIR", help="folder of truth.json (default: STUDY)")
    analyse.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    analyse.set_defaults(run=run_analyse)


def run_make(args: argparse.Namespace) -> int:
    """Makes a study from an existing cohort."""
    _make(args.cohort, args.out, args.cases, args.bundle, args.seed)
    return EXIT_DONE


def run_demo(args: argparse.Namespace) -> int:
    """Makes the demo study from a temporary cohort."""
    from tqdm import tqdm

    from xray2ctpa_core.reader_study.making import require_new
    from xray2ctpa_core.simulation.build import build_cohort

    require_new(args.out)
    with temporary_folder("xray2ctpa-cohort-") as cohort:
        with tqdm(total=DEMO_CASES, unit="patient", desc="cohort", disable=None, file=sys.stderr) as bar:
            build_cohort(
                cohort, DEMO_CASES, DEMO_SEED, args.workers, lambda done, _of: bar.update(done - bar.n)
            )
        _make(cohort, args.out, DEMO_CASES, args.bundle, DEMO_SEED)
    return EXIT_DONE


def _make(cohort: Path, out: Path, cases: int, bundle: str, study_seed: int) -> None:
    """Writes a study; the bundle generates every patient's CTPA with a separate seed."""
    from tqdm import tqdm

    from xray2ctpa_core.evaluation.patients import CohortPatient, cohort_patients, seed_of
    from xray2ctpa_core.pipelines.loading import load_bundle
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
    from xray2ctpa_core.reader_study.making import make_study
    from xray2ctpa_core.volume import Volume

    folder, _info = load_bundle(bundle)
    patients = cohort_patients(cohort, "test")
    half = cases // 2
    groups = [[patient for patient in patients if patient.pe is pe][:half] for pe in (True, False)]
    if min(len(group) for group in groups) < half:
        raise InputError(
            f"Expected {half} patients with PE and {half} without in {cohort}, got "
            f"{len(groups[0])} and {len(groups[1])}.",
            "Make a larger cohort, or a smaller study (--cases).",
        )
    chosen = sorted(groups[0] + groups[1], key=lambda patient: patient.name)
    pipeline = XRay2CTPAPipeline.from_folder(folder)

    def generate(patient: CohortPatient) -> Volume:
        result = pipeline(patient.radiograph, frame=patient.frame, seed=seed_of(patient, study_seed))
        return result.ctpa

    with tqdm(total=len(chosen), unit="patient", disable=None, file=sys.stderr) as bar:
        protocol = make_study(chosen, generate, out, study_seed, lambda done, _of: bar.update(done - bar.n))
    sys.stdout.write(f"{protocol.title}: {out}. Keep truth.json away from the readers.\n")


def run_analyse(args: argparse.Namespace) -> int:
    """Prints the tables of a study."""
    from xray2ctpa_core.reader_study.analysis import analyse
    from xray2ctpa_core.reader_study.answers import check_answers, read_study_answers
    from xray2ctpa_core.reader_study.protocol import read_protocol, read_truth
    from xray2ctpa_core.reader_study.tables import markdown

    protocol, sha256 = read_protocol(args.study)
    truth = read_truth(args.truth or args.study, protocol)
    answers = read_study_answers(args.study)
    strangers = {answer.reader for answer in answers if answer.protocol_sha256 != sha256}
    if strangers:
        raise InputError(
            f"Expected answers to this protocol, got others of {', '.join(sorted(strangers))}.",
            "Analyse the study that they read: study.json was changed afterwards.",
        )
    check_answers(answers, protocol)
    numbers: dict[str, Any] = analyse(protocol, answers, truth) | {"protocol_sha256": sha256}
    if args.json is not None:
        write_json(args.json, numbers, indent=1)
    sys.stdout.write(markdown(numbers) + "\n")
    return EXIT_DONE
