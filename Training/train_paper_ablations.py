"""The papers' ablations on a finished run of train_paper.py: losses left out, and guidance; arms of Tables 3
and 4.

python Training/train_paper_ablations.py --preset virtual --out runs/virtual --name virtual --studies 60

Every arm with losses of its own starts where the run's denoiser started and is trained as long, with the
same seed. Guidance by the radiograph is a matter of sampling. A denoiser that is told the label is trained
from the same start, by a preset of its own where there is one, and sampled with the true label: what the
tables say of it is what a label adds, not what a radiograph gives. It is sampled three times: told with
guidance, told without, and not told, with which the two others are to be compared.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from train_paper import Stage, command, run

#: Weights of the denoiser's terms that an arm leaves out.
LOSSES = {
    "loss-l1": ("perceptual_weight=0", "adversarial_weight=0", "classifier_weight=0"),
    "loss-l1-lpips": ("adversarial_weight=0", "classifier_weight=0"),
    "loss-l1-lpips-adversarial": ("classifier_weight=0",),
}
#: Preset of the denoiser that is told the label; of the others it is the radiographs' own.
LABEL_PRESETS = {"virtual": "label-denoiser"}


def stages(args: argparse.Namespace) -> Iterator[Stage]:
    """The stages of all arms, in order."""
    out: Path = args.out
    shared = (
        f"latents={out / 'latents'}",
        f"films={out / 'cxr'}",
    )
    autoencoder = f"autoencoder={args.autoencoder or out / 'autoencoder' / 'autoencoder'}"
    judge = f"classifier={out / 'classifier' / 'pe_classifier'}"

    def denoiser(arm: str, *more: str, preset: str = "cxr-denoiser") -> Stage:
        weights = args.encoder_weights or out / "cxr-classifier" / "film_encoder"
        sets = (*shared, f"encoder_weights={weights}", f"start={out / 'drr-denoiser'}", autoencoder, judge)
        if args.distance_weights:
            sets = (*sets, f"distance_weights={args.distance_weights}")
        return Stage(
            "train_paper_denoiser.py",
            f"{arm}-denoiser",
            preset,
            (*sets, *more),
            "denoiser/config.json",
        )

    def measured(arm: str, folder: str, *more: str) -> Iterator[Stage]:
        name = (f"name={arm}", f"dataset={args.name}")
        sets = (f"denoiser={out / folder}", *shared, autoencoder, *name, f"studies={args.studies}", *more)
        yield Stage("generate_latents.py", arm, "generate", (*sets, 'only=["test"]'), "index.json")
        yield Stage("predict_latents.py", f"{arm}-pe", "", (judge, f"latents={out / arm}", *name), "arm.json")

    for arm, left_out in LOSSES.items():
        yield denoiser(arm, *left_out)
        yield from measured(arm, f"{arm}-denoiser")
    yield from measured("guidance-cxr", "denoiser", f"guidance_scale={args.guidance}")
    preset = LABEL_PRESETS.get(args.preset, "cxr-denoiser")
    yield denoiser("guidance-label", "labels=true", "label_dropout=0.1", preset=preset)
    for arm, scale in (("guidance-label", args.guidance), ("label-told", 1), ("label-untold", 0)):
        yield from measured(arm, "guidance-label-denoiser", f"label_scale={scale}")


def main() -> int:
    """Runs the stages that are not finished; returns the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run of train_paper.py")
    parser.add_argument("--preset", choices=("smoke", "virtual", "paper"), default="virtual")
    parser.add_argument("--name", default="mine", help="of the data set, in the tables")
    parser.add_argument("--studies", type=int, default=0, help="of the test, from the first; 0 for all")
    parser.add_argument("--guidance", type=float, default=2.0, help="scale of classifier-free guidance")
    parser.add_argument("--autoencoder", default="", help="AutoencoderKL folder; empty takes the run's own")
    parser.add_argument("--encoder-weights", default="", help="film encoder; empty takes the run's own")
    parser.add_argument("--distance-weights", default="", help="folder of RadImageNet's ResNet50.pt")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    args = parser.parse_args()
    for stage in stages(args):
        if (args.out / stage.folder / stage.finished).exists():
            print(f"finished: {args.out / stage.folder}", flush=True)
            continue
        words = command(stage, args)
        print(shlex.join(words), flush=True)
        if not args.dry_run and (code := run(words)):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
