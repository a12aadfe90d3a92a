"""`xray2ctpa score`: PE from radiographs alone, without a volume, one line for each file."""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from xray2ctpa_core.cli.generate import add_bundle, distinct, stem
from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.errors import InputError, NotFrontalCXRError, XRay2CTPAError
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.pipelines.loading import load_bundle
from xray2ctpa_core.wording import one_line

#: Files whose images go through a prior together, and files that are read ahead of it at most.
_AT_ONCE, _READ_AHEAD = 16, 64


class Scored(NamedTuple):
    """Result of one file: the content of its line, or an error."""

    source: Path
    content: dict[str, Any]
    error: XRay2CTPAError | None = None


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "score",
        help="score radiographs for PE without generating a volume",
        description="Scores radiographs for PE from the radiograph alone, without a volume. Each line has "
        "probability, threshold, positive or negative, calibrated or not, and file. A bundle with a prior "
        "scores with it, other bundles with the radiograph encoder. A score is a hypothesis, never a "
        "diagnosis: not for patient care.",
        epilog="Exit codes are those of generate; with several files the code of the first that failed; the "
        "others are still scored.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="as INPUT of generate")
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument(
        "--maps", type=Path, metavar="DIR", help="also write NAME-gradcam.png, the Grad-CAM map of each score"
    )
    parser.add_argument(
        "--force", action="store_true", help="continue if the input is no frontal chest radiograph"
    )
    parser.add_argument(
        "--timing", action="store_true", help="say on stderr how long loading and each file took"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; the exit code is that of the first file that failed."""
    began = time.perf_counter()
    score = scorer(args.bundle, args.force, with_maps=args.maps is not None)
    maps = map_files(args.inputs, args.maps)
    ready, used = time.perf_counter(), time.process_time()
    code = EXIT_DONE
    if not args.json:
        sys.stdout.write("probability\tthreshold\tcall\tcalibrated\tfile\n")
    with contextlib.closing(in_order(score, args.inputs, maps)) as results:  # an interrupt ends its threads
        for scored in results:
            if scored.error is not None:
                lines = (f"{scored.source}: {scored.error.message}", scored.error.hint)
                sys.stderr.write("".join(one_line(part) + "\n" for part in lines if part))
                code = code or scored.error.exit_code
                continue
            sys.stdout.write((json.dumps(scored.content) if args.json else line(scored.content)) + "\n")
            sys.stdout.flush()
    if args.timing:
        taken, used = time.perf_counter() - ready, time.process_time() - used
        sys.stderr.write(timing(len(args.inputs), ready - began, taken, used) + "\n")
    return code


def map_files(sources: list[Path], folder: Path | None) -> list[Path | None]:
    """Where the map of each file is written: NAME-gradcam.png in ``folder``, which is made; of files with the
    same name, ignoring case, NAME-2-gradcam.png and so on in the given order. None for each without a
    folder."""
    if folder is None:
        return [None] * len(sources)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # said once, and not after each file
    return [folder / f"{name}-gradcam.png" for name in distinct([stem(source) for source in sources])]


def timing(files: int, loading: float, taken: float, used: float) -> str:
    """What --timing says: seconds of loading, of all files, and of processor time that these used."""
    at_once = min(files, cpus())
    return (
        f"loading {loading:.2f} s; {files} files in {taken:.2f} s, {at_once} at a time: "
        f"{1000 * taken / files:.0f} ms a file, {1000 * used / files:.0f} ms of processor time a file"
    )


def line(content: dict[str, Any]) -> str:
    """A score as a line of text with columns separated by tabs; a file's name with tabs or line ends has
    them as Python writes them."""
    opinion = content["pe"]["second_opinion"]
    cells = (
        f"{opinion['probability']:.3f}",
        f"{opinion['threshold']:.3f}",
        "positive" if opinion["positive"] else "negative",
        "calibrated" if opinion["calibrated"] else "uncalibrated",
        one_line(content["file"]),
    )
    return "\t".join(cells)


def in_order(
    score: "Scorer", sources: list[Path], maps: Sequence[Path | None] = ()
) -> Generator[Scored, None, None]:
    """The files' scores in the given order, computed for several files at a time, each on one processor.

    Args:
        score: of a file.
        sources: the files.
        maps: where the map of each is written, or nothing for none.
    """
    maps = maps or [None] * len(sources)
    if len(sources) == 1:
        yield score(sources[0], maps[0])
        return
    from threadpoolctl import threadpool_limits
    from torch import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(1)
    try:
        with threadpool_limits(1), ThreadPoolExecutor(cpus()) as pool:
            if score.at_once == 1:
                yield from pool.map(score.__call__, sources, maps)
                return
            for first in range(0, len(sources), _READ_AHEAD):  # a part is read while one before is scored
                part = slice(first, first + _READ_AHEAD)
                read = pool.map(score.read, sources[part], maps[part])
                while some := list(itertools.islice(read, score.at_once)):
                    yield from score.of_read(some)
    finally:
        set_num_threads(before)


def cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Read(NamedTuple):
    """A file that was read: what the network reads of it, (1, 1, P, P), and the rest of its line; or an
    error."""

    source: Path
    image: Any = None
    content: dict[str, Any] | None = None
    error: XRay2CTPAError | None = None


class Scorer(NamedTuple):
    """Scores a file by a call; or several, whose images go through the network together.

    Attributes:
        read: file, and where its map is written or None -> what was read.
        of_read: several of these -> their results.
        at_once: as many as are quicker together. A prior's small steps are: 16 take a fifth of the time.
    """

    read: Callable[[Path, Path | None], Read]
    of_read: Callable[[list[Read]], list[Scored]]
    at_once: int

    def __call__(self, source: Path, drawn: Path | None = None) -> Scored:
        return self.of_read([self.read(source, drawn)])[0]


def scorer(bundle: str, force: bool, with_maps: bool = False) -> Scorer:
    """Loads the networks once and returns what scores files.

    Args:
        bundle: its name, folder or Hub id.
        force: accept radiographs that the gate refuses.
        with_maps: whether Grad-CAM maps will be written.

    Raises:
        BundleError: no such bundle, or one without a score of the radiograph.
        InputError: maps of a network that has no layer of maps.
    """
    folder, info = load_bundle(bundle)
    import torch

    from xray2ctpa_core.generation.result_json import gate_content, input_content
    from xray2ctpa_core.generation.together import outcome
    from xray2ctpa_core.io.radiograph import read_radiograph
    from xray2ctpa_core.models.framing.lung_locator import LungLocator
    from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
    from xray2ctpa_core.pipelines.bundle_opinion import bundle_opinion
    from xray2ctpa_core.pipelines.device import channels_last
    from xray2ctpa_core.pipelines.parts import part_classes
    from xray2ctpa_core.pipelines.prior_opinion import RESTS_ON_PRIOR

    locator = LungLocator.from_pretrained(folder / "lung_locator", use_safetensors=True).eval()
    kind = part_classes(folder)["xray_encoder"]
    encoder = kind.from_pretrained(folder / "xray_encoder", use_safetensors=True).eval()
    reader = bundle_opinion(folder, info, encoder)
    channels_last(reader.network)  # the locator stays as it is: the frame is the one that generate reads

    if with_maps and not reader.has_map:
        raise InputError(
            f"Grad-CAM needs a layer of maps, which {type(reader.network).__name__} has not here.",
            "Leave out --maps: encoders that are transformers have none.",
        )

    def read(source: Path, drawn: Path | None) -> Read:
        reading = frame_radiograph(locator, read_radiograph(source))
        radiograph, gate = reading.radiograph, reading.gate
        if not (gate.accepted or force):
            raise NotFrontalCXRError(
                f"Expected a frontal chest radiograph, got a score of {gate.is_frontal_cxr:.2f} of 1. "
                f"{' '.join(gate.warnings)}".rstrip(),
                "Give a frontal chest radiograph, or continue with --force.",
            )
        image = reader.image_of(radiograph, reading.frame)
        heat = None if drawn is None else reader.heat(radiograph, reading.frame)
        if drawn is not None and heat is not None:
            from xray2ctpa_core.io.radiograph_map import write_radiograph_map

            write_radiograph_map(radiograph, heat, drawn)
        content = {"file": str(source), "input": input_content(radiograph), "gate": gate_content(gate)}
        return Read(source, image, content)

    def read_or_error(source: Path, drawn: Path | None = None) -> Read:
        found = outcome(lambda: read(source, drawn))
        return Read(source, error=found) if isinstance(found, XRay2CTPAError) else found

    def of_read(files: list[Read]) -> list[Scored]:
        images = [file.image for file in files if file.error is None]
        opinions = iter(reader.scores(torch.cat(images)) if images else [])
        return [
            Scored(file.source, {}, file.error)
            if file.content is None
            else Scored(file.source, file.content | {"pe": {"second_opinion": next(opinions).content()}})
            for file in files
        ]

    at_once = _AT_ONCE if reader.rests_on == RESTS_ON_PRIOR else 1
    return Scorer(read_or_error, of_read, at_once)
