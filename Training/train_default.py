"""Makes the embedded default from nothing: runs every stage in order, going on where a run was stopped.

    python Training/train_default.py
    python Training/train_default.py --dry-run     (says what it would run)

The log.jsonl of each stage says how fast it ran.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = Path("runs/default")
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
    ("calibrate.py", PLACE / "bundle", "bundle.json"),
    ("evaluate.py", PLACE / "evaluation", "evaluation.json"),
    ("ship_default.py", PACKAGE, None),
)


def command(script: str, folder: Path) -> list[str]:
    """The command of one stage, with --resume where a checkpoint of it lies."""
    there = any(folder.glob("checkpoint/*/progress.json")) or (folder / "checkpoint.pt").exists()
    resume = ["--resume"] if there else []
    return [sys.executable, str(HERE / script), "--out", str(folder), *resume]


def main() -> int:
    """Runs the stages that are not finished; returns the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    args = parser.parse_args()
    for script, folder, finished in STAGES:
        if finished and (folder / finished).exists():
            print(f"finished: {folder}")
            continue
        words = command(script, folder)
        print(shlex.join(words), flush=True)
        if not args.dry_run:
            code = subprocess.run(words, check=False).returncode
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
