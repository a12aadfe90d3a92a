"""Makes the embedded default from nothing: runs every stage in order, going on where a run was stopped.

    python Training/train_default.py
    python Training/train_default.py --dry-run     (says what it would run)
    python Training/train_default.py --real-films FOLDER   (the X-ray encoder also learns from these)
    python Training/train_default.py --templates FOLDER    (the default of many people, from these CTs)

The log.jsonl of each stage says how fast it ran, runs/default/times.jsonl how long each took; the sum is said
in the end.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = Path("runs/default")
#: A line for each time that a stage ran: script, seconds, exit code.
TIMES = PLACE / "times.jsonl"
#: The X-ray encoder that has seen real films as well; the stage is left out where there are none.
REAL_FILM_ENCODER = PLACE / "real-film-encoder"
PACKAGE = HERE.parent / "X-ray2CTPACore" / "xray2ctpa_core"
#: Script, folder, and the file whose presence there says that the stage is finished; a script without such
#: a file sees for itself what is there.
STAGES: tuple[tuple[str, Path, str | None], ...] = (
    ("make_cohort.py", PLACE / "cohort", None),
    ("train_lung_locator.py", PLACE / "lung-locator", "lung_locator/config.json"),
    ("train_autoencoder.py", PLACE / "autoencoder", "autoencoder/config.json"),
    ("encode_latents.py", PLACE / "latents" / "train", "index.json"),
    ("make_films.py", PLACE / "films", "films.json"),
    ("train_xray_encoder.py", PLACE / "xray-encoder", "xray_encoder/config.json"),
    ("train_pe_classifier.py", PLACE / "pe-classifier", "pe_classifier/config.json"),
    ("train_denoiser.py", PLACE / "denoiser", "denoiser/config.json"),
    ("train_xray_encoder.py", REAL_FILM_ENCODER, "xray_encoder/config.json"),
    ("calibrate.py", PLACE / "bundle", "bundle.json"),
    ("evaluate.py", PLACE / "evaluation", "evaluation.json"),
    ("ship_default.py", PACKAGE, None),
)


#: The stages with --templates: people packed, encoder and denoiser of their bank, in a place of their own.
PEOPLE = Path("runs/people-default")
PEOPLE_STAGES: tuple[tuple[str, Path, str | None], ...] = (
    ("pack_templates.py", PEOPLE / "people", None),
    ("train_bank_encoder.py", PEOPLE / "encoder", "encoder/config.json"),
    ("train_bank_denoiser.py", PEOPLE / "denoiser", "scheduler/scheduler_config.json"),
)


def people_settings(script: str, templates: Path) -> list[str]:
    """What a stage of PEOPLE_STAGES is told."""
    if script == "pack_templates.py":
        return ["--set", f"templates={templates}"]
    settings = ["--set", f"people={PEOPLE / 'people'}"]
    if script == "train_bank_denoiser.py":
        settings.append(f"encoder={PEOPLE / 'encoder' / 'encoder'}")
    return settings


def command(script: str, folder: Path, real_films: Path | None = None) -> list[str]:
    """The command of one stage, with --resume where a checkpoint of it lies.

    Args:
        script, folder: of STAGES.
        real_films: folder of radiographs that REAL_FILM_ENCODER learns from, and the evaluation looks at.
    """
    there = any(folder.glob("checkpoint/*/progress.json")) or (folder / "checkpoint.pt").exists()
    resume = ["--resume"] if there else []
    words = [sys.executable, str(HERE / script), "--out", str(folder), *resume]
    if real_films is None:
        return words
    if folder == REAL_FILM_ENCODER:
        words += ["--config", str(HERE / "configs" / "real-films.json"), "--set", f"real_films={real_films}"]
    elif script == "calibrate.py":
        words += ["--set", f"xray_encoder={REAL_FILM_ENCODER}"]
    elif script == "evaluate.py":
        words += ["--set", f"film_folders={json.dumps([str(real_films)])}"]
    return words


def main() -> int:
    """Runs the stages that are not finished; returns the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    parser.add_argument("--real-films", type=Path, help="folder of frontal chest radiographs, unlabelled")
    parser.add_argument("--templates", type=Path, help="folder of chest CTs, a file a person")
    args = parser.parse_args()
    for script, folder, finished in PEOPLE_STAGES if args.templates else STAGES:
        if folder == REAL_FILM_ENCODER and args.real_films is None:
            continue
        if finished and (folder / finished).exists():
            print(f"finished: {folder}")
            continue
        words = command(script, folder, args.real_films)
        if args.templates:
            words += people_settings(script, args.templates)
        print(shlex.join(words), flush=True)
        if not args.dry_run:
            code = timed(script, words)
            if code:
                return code
    if not args.dry_run and TIMES.exists():
        print(report())
    return 0


def timed(script: str, words: list[str]) -> int:
    """Runs a stage, notes in TIMES how long it took, and returns its exit code."""
    began = time.monotonic()
    code = subprocess.run(words, check=False).returncode
    entry = {"script": script, "seconds": round(time.monotonic() - began, 1), "code": code}
    TIMES.parent.mkdir(parents=True, exist_ok=True)
    with TIMES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    return code


def report() -> str:
    """Minutes of each stage, of all its runs together, and their sum."""
    minutes: dict[str, float] = {}
    for line in TIMES.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        minutes[entry["script"]] = minutes.get(entry["script"], 0.0) + entry["seconds"] / 60
    lines = [f"{script:24} {spent:6.1f} min" for script, spent in minutes.items()]
    return "\n".join([*lines, f"{'sum':24} {sum(minutes.values()):6.1f} min"])


if __name__ == "__main__":
    sys.exit(main())
