"""Makes the embedded default from nothing: runs every stage in order, going on where a run was stopped.

    python Training/train_default.py --out runs/default
    python Training/train_default.py --out runs/default --dry-run     (says what it would run)

On 2 CPU cores it takes under three hours; Training/README.md has what each stage took.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Script, folder, and the file whose presence there says that the stage is finished; the cohort's script
#: itself sees what is there.
STAGES: tuple[tuple[str, str, str | None], ...] = (
    ("make_cohort.py", "cohort", None),
    ("train_lung_locator.py", "lung-locator", "lung_locator/config.json"),
    ("train_autoencoder.py", "autoencoder", "autoencoder/config.json"),
    ("encode_latents.py", "latents/train", "index.json"),
    ("train_xray_encoder.py", "xray-encoder", "xray_encoder/config.json"),
    ("train_pe_classifier.py", "pe-classifier", "pe_classifier/config.json"),
    ("train_denoiser.py", "denoiser", "denoiser/config.json"),
    ("calibrate.py", "bundle", "bundle.json"),
    ("evaluate.py", "evaluation", "evaluation.json"),
)


def command(script: str, folder: Path) -> list[str]:
    """The command of one stage, with --resume where a checkpoint of it lies."""
    resume = ["--resume"] if (folder / "checkpoint").exists() or (folder / "checkpoint.pt").exists() else []
    return [sys.executable, str(HERE / script), "--out", str(folder), *resume]


def main() -> int:
    """Runs the stages that are not finished; returns the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/default"), help="folder of all stages")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    args = parser.parse_args()
    for script, name, finished in STAGES:
        folder = args.out / name
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
