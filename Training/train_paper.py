"""The papers' system from studies on disk to predictions: every stage in order, going on where a run was
stopped.

    python Training/train_paper.py --preset smoke --data DIR --out runs/paper-smoke
    python Training/train_paper.py --preset virtual --data runs/virtual/data --out runs/virtual --name virtual
    python Training/train_paper.py --preset paper --data DIR --out runs/paper --encoder-weights FOLDER \\
        --autoencoder /models/sd-vae-ft-mse --distance-weights /models/radimagenet

DIR holds studies.csv (dataset=folder: volume, radiograph, label, split, and id and patient where you have
them). ``smoke`` trains a small autoencoder of its own, and a small film encoder; ``--codec vqgan`` trains a
3D VQGAN in the place of the 2D autoencoder, unless --autoencoder names one. Each stage is a command
that is printed and can be run alone. The data set's split is used, not cross-validation: a generator that
learned from a patient must not make that patient's test volume.
"""

import argparse
import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Of the evaluation; run at the end where it is there.
TABLES_SCRIPT = HERE / "make_tables.py"


@dataclass(frozen=True)
class Stage:
    """One command: script, folder of its output, preset without its prefix ("" for none), overrides, and the
    file whose presence says that it is finished ("" where the script sees for itself)."""

    script: str
    folder: str
    config: str
    sets: tuple[str, ...]
    finished: str = ""


@dataclass(frozen=True)
class Codec:
    """What makes the latents: name of its folder and preset, script, row of the generated volumes in
    configs/paper-tables.json, whether a perceptual distance judges it, and overrides of its latents' scaling:
    the presets' numbers are those of one 2D autoencoder."""

    name: str
    script: str
    arm: str
    is_judged: bool
    scaling: tuple[str, ...]


CODECS = {
    "vae": Codec("autoencoder", "train_autoencoder.py", "generated", False, ()),
    "vqgan": Codec("vqgan", "train_vqgan.py", "codec-vqgan", True, ("scaling=standardised",)),
}


def stages(args: argparse.Namespace) -> Iterator[Stage]:
    """The stages of one run, in order."""
    out: Path = args.out
    data = (f"root={args.data}", f"table={args.data / 'studies.csv'}", f"workers={args.workers}")
    films = (f"root={out / 'drr'}", f"table={out / 'drr' / 'films.csv'}", f"workers={args.workers}")
    latents, ctpa, cxr = f"latents={out / 'latents'}", out / "ctpa", f"films={out / 'cxr'}"
    yield Stage("preprocess_ctpa.py", "ctpa", "ctpa", data)
    yield Stage("preprocess_cxr.py", "cxr", "cxr", data)
    computed = out / "cxr"
    if args.preset != "virtual":
        computed = out / "drr-cxr"
        yield Stage("make_drr.py", "drr", "drr", data)
        yield Stage("preprocess_cxr.py", "drr-cxr", "cxr", films)
    autoencoder, encoder_weights = args.autoencoder, args.encoder_weights
    codec, judge = CODECS[args.codec], ()
    if args.distance_weights:
        judge = (f"distance_weights={args.distance_weights}",)
    if not autoencoder:
        sets = (f"cohort={ctpa}", *(judge if codec.is_judged else ()))
        yield Stage(codec.script, codec.name, codec.name, sets, f"{codec.name}/config.json")
        autoencoder = out / codec.name / codec.name
    sets = ("layout=preprocessed", f"cohort={ctpa}", f"autoencoder={autoencoder}", "hu_window=[-100,900]")
    yield Stage("encode_latents.py", "latents", "", sets, "index.json")

    scaled = (latents, *codec.scaling)

    def classifier(script: str, folder: str, config: str, arm: str, *more: str) -> Stage:
        """``arm``: its row in configs/paper-tables.json."""
        sets = (f"name={arm}", f"dataset={args.name}", "folds=0", *more)
        return Stage(script, folder, config, sets, "arm.json")

    yield classifier("train_paper_classifier.py", "classifier", "latent-classifier", "latent", *scaled)
    weights = (f"encoder_weights={encoder_weights}",) if encoder_weights else ()
    yield classifier(
        "train_cxr_classifier.py", "cxr-classifier", "cxr-classifier", "cxr-only", latents, cxr, *weights
    )
    slices = (f"encoder_weights={args.distance_weights}",) if args.preset == "paper" else ()
    yield classifier(
        "train_slice_classifier.py", "slice-classifier", "slice-classifier", "inspect-64", latents, *slices
    )
    if args.preset != "paper":
        weights = (f"encoder_weights={out / 'cxr-classifier' / 'film_encoder'}",)

    def denoiser(folder: str, config: str, *more: str) -> Stage:
        return Stage("train_paper_denoiser.py", folder, config, (*scaled, *more), "denoiser/config.json")

    yield denoiser("unconditional", "unconditional-denoiser")
    yield denoiser(
        "drr-denoiser", "drr-denoiser", *weights, f"films={computed}", f"start={out / 'unconditional'}"
    )
    judges = [f"autoencoder={autoencoder}", f"classifier={out / 'classifier' / 'pe_classifier'}", *judge]
    yield denoiser("denoiser", "cxr-denoiser", *weights, cxr, f"start={out / 'drr-denoiser'}", *judges)
    decodes = f"autoencoder={autoencoder}"
    if args.tiny_decoder:
        yield Stage(
            "train_tiny_decoder.py",
            "tiny-decoder",
            "tiny-decoder",
            (latents, decodes, *judge),
            "decoder/config.json",
        )
        decodes = f"decoder={out / 'tiny-decoder' / 'decoder'}"
    sets = (
        f"denoiser={out / 'denoiser'}",
        latents,
        cxr,
        decodes,
        f"name={codec.arm}",
        f"dataset={args.name}",
    )
    yield Stage("generate_latents.py", "generated", "generate", sets, "index.json")
    generated = f"latents={out / 'generated'}"
    if args.preset == "virtual":
        reader = f"classifier={out / 'classifier' / 'pe_classifier'}"
        sets = (reader, generated, f"name={codec.arm}", f"dataset={args.name}")
        yield Stage("predict_latents.py", "generated-pe", "", sets, "arm.json")
        return
    yield classifier(
        "train_paper_classifier.py",
        "classifier-on-generated",
        "latent-classifier",
        codec.arm,
        generated,
        f"start={out / 'classifier' / 'pe_classifier'}",
    )
    yield classifier(
        "train_slice_classifier.py",
        "slice-classifier-on-generated",
        "slice-classifier",
        "inspect-generated",
        generated,
        *slices,
    )


def command(stage: Stage, args: argparse.Namespace) -> list[str]:
    """The command of one stage, with --resume where something of it can be gone on with."""
    folder: Path = args.out / stage.folder
    words = [sys.executable, str(HERE / stage.script), "--out", str(folder)]
    if stage.config:
        words += ["--config", str(HERE / "configs" / f"{args.preset}-{stage.config}.json")]
    words += ["--set", *stage.sets]
    started = any(folder.glob("checkpoint/*/progress.json")) or (folder / "parts").is_dir()
    return [*words, "--resume"] if started else words


def main() -> int:
    """Runs the stages that are not finished, then the tables; returns the exit code of the first that
    fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with studies.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of all stages")
    parser.add_argument("--preset", choices=("smoke", "virtual", "paper"), default="smoke")
    parser.add_argument("--name", default="mine", help="of the data set, in the tables")
    parser.add_argument("--codec", choices=sorted(CODECS), default="vae", help="2D autoencoder or 3D VQGAN")
    parser.add_argument(
        "--autoencoder",
        default="",
        help="codec's folder; smoke and virtual train one, and --codec vqgan does",
    )
    parser.add_argument("--encoder-weights", default="", help="folder of BiomedCLIP; empty fetches it")
    parser.add_argument("--distance-weights", default="", help="folder of RadImageNet's ResNet50.pt")
    parser.add_argument(
        "--tiny-decoder", action="store_true", help="decode generated volumes by a small network made for it"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that preprocess; 0 one a processor")
    parser.add_argument(
        "--one-process", action="store_true", help="for small data: torch is imported once, not by each stage"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    args = parser.parse_args()
    if args.tiny_decoder and args.codec != "vae":
        parser.error("--tiny-decoder is taught slices: it goes with --codec vae")
    if args.preset == "paper" and not (args.distance_weights and (args.autoencoder or args.codec == "vqgan")):
        parser.error("--preset paper needs --distance-weights and, with --codec vae, --autoencoder")
    for stage in stages(args):
        if stage.finished and (args.out / stage.folder / stage.finished).exists():
            print(f"finished: {args.out / stage.folder}", flush=True)
            continue
        words = command(stage, args)
        print(shlex.join(words), flush=True)
        if not args.dry_run and (code := run_here(words[1:]) if args.one_process else run(words)):
            return code
    if not TABLES_SCRIPT.is_file() or args.preset == "virtual":  # there more arms are made first
        return 0
    words = [sys.executable, str(TABLES_SCRIPT), "--out", str(args.out / "tables"), *arms(args)]
    print(shlex.join(words), flush=True)
    return 0 if args.dry_run else run(words)


def arms(args: argparse.Namespace) -> list[str]:
    """The evaluated arms, as the script of the tables takes them."""
    folders = sorted(path.parent for path in args.out.glob("*/arm.json"))
    return ["--set", "arms=[" + ",".join(f'"{folder}"' for folder in folders) + "]"]


def run(words: list[str]) -> int:
    """Runs a command."""
    return subprocess.run(words, check=False).returncode


def run_here(words: list[str]) -> int:
    """Runs a training script with its arguments in this process, which has torch imported already."""
    script = Path(words[0])
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None and spec.loader is not None  # noqa: PT018 - a file of this folder
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)

    from xray2ctpa_core.cli.stage import run_stage

    return run_stage(module.__doc__, module.Config, module.run, {}, words[1:])


if __name__ == "__main__":
    sys.exit(main())
