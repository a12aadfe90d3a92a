"""Open pairs of radiograph and CT from the Imaging Data Commons, in five steps.

    python Training/open_pairs.py select OUT     the cohort as a table, from the installed index, offline
    python Training/open_pairs.py fetch OUT      its images; goes on where it was stopped
    python Training/open_pairs.py labels OUT     who had PE, if a clinical table says so
    python Training/open_pairs.py prepare OUT    the study table that preprocessing reads; goes on, too
    python Training/open_pairs.py cost OUT       what a recipe needs: disk, processor time, steps

Needs the extra open-data. Only ``fetch`` and ``labels`` use the network. See docs/open-pairs.md.
"""

import argparse
import contextlib
import functools
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xray2ctpa_core.cli.streams import working_folder_left_out
from xray2ctpa_core.constants import EXIT_CANCELLED, EXIT_DONE
from xray2ctpa_core.data.open_pairs.fetch import (
    Store,
    fetch_series,
    missing_series,
    needed_series,
)
from xray2ctpa_core.data.open_pairs.pairs import count_patients, select_pairs
from xray2ctpa_core.data.open_pairs.rules import COLLECTIONS, LICENCES, RULES_VERSION, Rules
from xray2ctpa_core.data.open_pairs.series import Series, index_path, index_version, read_index
from xray2ctpa_core.data.open_pairs.table import TABLE_FILE, read_pairs, write_pairs
from xray2ctpa_core.errors import InputError, XRay2CTPAError
from xray2ctpa_core.io.result_folder import writing

RECIPES = Path(__file__).resolve().parent / "recipes"
#: Measured units of the three recipes.
MEASURED = RECIPES.parent / "configs" / "open-pairs-cost.json"
#: Further radiographs that are fetched in case the gate refuses the nearest.
ALTERNATIVES = 2
#: So many series that fail in a row mean that there is no network.
PATIENCE = 5
COUNT_HEADINGS = (
    "collection", "patients", "(3 days)", "angiography", "(3 days)", "pairs", "(3 days)", "CTs", "(3 days)",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Runs one of the steps; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("select", help="writes the table of pairs, and prints what there is")
    step.add_argument("out", type=Path, help="folder of the cohort")
    step.add_argument(
        "--index", type=Path, help="another index, a Parquet file (default: the installed package's)"
    )
    step.add_argument(
        "--days", type=int, default=1, help="largest distance between radiograph and CT (default: 1)"
    )
    step.add_argument("--angiography", action="store_true", help="only CT pulmonary angiographies")
    step.add_argument(
        "--collections", nargs="+", default=list(COLLECTIONS), help="default: all that have pairs"
    )
    step.add_argument("--licences", nargs="+", default=list(LICENCES), help=f"default: {', '.join(LICENCES)}")
    step.set_defaults(run=select)
    step = steps.add_parser("fetch", help="fetches the images of the table from the Imaging Data Commons")
    step.add_argument("out", type=Path)
    step.add_argument("--split", choices=("train", "validation", "test"), help="only this split")
    step.add_argument("--first", type=int, default=0, help="only so many pairs, from the first")
    step.add_argument(
        "--store", type=Path, help="a folder with a subfolder for each series, in place of the network"
    )
    step.add_argument("--dry-run", action="store_true", help="only prints how much there is to fetch")
    step.set_defaults(run=fetch)
    step = steps.add_parser("prepare", help="checks the images and writes the study table")
    step.add_argument("out", type=Path)
    step.add_argument(
        "--locator", type=Path, help="folder of a lung locator (default: the embedded bundle's)"
    )
    step.add_argument(
        "--labels",
        type=Path,
        help="table with the columns patient and label, where you have PE (default: of the step labels)",
    )
    step.add_argument("--workers", type=int, default=0, help="processes (default: one per processor)")
    step.add_argument(
        "--cluster",
        default="",
        metavar="SPEC",
        help="have several machines that reach OUT read the images (extra: cluster): local:N, slurm:N, "
        "slurm:FILE.toml, or the address of a Dask scheduler",
    )
    step.set_defaults(run=prepare)
    step = steps.add_parser(
        "labels", help="PE by patient from a clinical table; without --column lists columns"
    )
    step.add_argument("out", type=Path)
    step.add_argument(
        "--tables", type=Path, help="folder of the clinical tables (default: fetched through idc-index)"
    )
    step.add_argument("--table", help="one of them")
    step.add_argument("--column", help="its column")
    step.add_argument("--positive", nargs="+", default=[], help="the column's values that mean PE")
    step.add_argument("--negative", nargs="+", default=[], help="those that mean no PE")
    step.set_defaults(run=labels)
    step = steps.add_parser("cost", help="prints what training by a recipe needs")
    step.add_argument("out", type=Path, help="folder of the cohort, selected")
    step.add_argument("recipe", nargs="?", default="open-pairs", help="default: %(default)s")
    step.add_argument("--run", dest="place", type=Path, help="folder of the run, whose free disk is compared")
    step.add_argument("--set", nargs="+", default=[], metavar="STEP.KEY=VALUE", help="as of train.py")
    step.add_argument(
        "--measured",
        type=Path,
        help="of measure_recipe.py on your machine (default: configs/open-pairs-cost.json)",
    )
    step.set_defaults(run=cost)
    args = parser.parse_args(arguments)
    try:
        with working_folder_left_out(), writing(args.out):
            return args.run(args)
    except KeyboardInterrupt:
        print("Stopped; the same command continues.", file=sys.stderr)
        return EXIT_CANCELLED
    except XRay2CTPAError as error:
        print(f"Error: {error.message}\n{error.hint}".rstrip(), file=sys.stderr)
        return error.exit_code


def select(args: argparse.Namespace) -> int:
    """Writes the table, and prints counts and split."""
    if args.days < 0:
        raise InputError(f"Expected --days of at least 0, got {args.days}.")
    rules = Rules(tuple(args.collections), tuple(args.licences), args.days, args.angiography)
    version = str(args.index) if args.index else index_version()
    series = read_index(args.index or index_path(), rules.collections)
    print("Patients with CT and radiograph within 1 day, and of them with a pulmonary angiography:")
    lines: list[tuple[str, ...]] = [COUNT_HEADINGS]
    for collection, count in count_patients(series, rules).items():
        lines.append((collection, *(str(number) for number in vars(count).values())))
    print_columns(lines)
    pairs = select_pairs(series, rules)
    if not pairs:
        raise InputError(
            "Expected at least one pair by these rules, got none.", "Allow more days or collections."
        )
    digest = write_pairs(args.out, pairs, rules, version)
    patients = len({pair.ct.patient for pair in pairs})
    splits = ", ".join(f"{sum(p.split == s for p in pairs)} {s}" for s in ("train", "validation", "test"))
    megabytes = sum(one.megabytes for one in needed_series(pairs, ALTERNATIVES))
    print(f"{len(pairs)} pairs of {patients} patients ({splits}); {megabytes / 1000:.1f} GB to fetch.")
    print(f"{args.out / TABLE_FILE}, SHA-256 {digest}, by rules {RULES_VERSION} from index {version}.")
    return EXIT_DONE


def fetch(args: argparse.Namespace) -> int:
    """Fetches the series of the table."""
    pairs = [pair for pair in read_pairs(args.out) if args.split in (None, pair.split)]
    series = needed_series(pairs[: args.first or None], ALTERNATIVES)
    missing, free = missing_series(args.out, series), shutil.disk_usage(args.out).free / 1e9
    print(
        f"{len(series)} series, {sum(one.megabytes for one in missing) / 1000:.1f} GB of them missing; "
        f"{free:.1f} GB of disk are free."
    )
    if args.dry_run:
        return EXIT_DONE
    if args.store or not missing:  # then no store is asked
        done = fetch_series(args.out, series, folder_store(args.store or args.out), _say)
    else:
        done = fetch_series(args.out, series, commons_store(series), _say, PATIENCE)
    print(f"{done.complete} of {len(series)} series are there, {done.former} of them from before.")
    for line in done.failed:
        print(f"failed: {line}", file=sys.stderr)
    if not done.complete:
        raise InputError(f"Expected {len(series)} series, got none of them.", "The same command tries again.")
    return EXIT_DONE


def prepare(args: argparse.Namespace) -> int:
    """Writes the study table of what was fetched."""
    from xray2ctpa_core.cli.stage import Bar
    from xray2ctpa_core.data.open_pairs.labels import LABELS_FILE, read_labels
    from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE, prepare_pairs
    from xray2ctpa_core.pipelines.loading import EMBEDDED
    from xray2ctpa_core.workers import in_processes

    written = args.out / LABELS_FILE
    path = args.labels or (written if written.is_file() else None)
    known = read_labels(path) if path else None
    locator = args.locator or EMBEDDED / "virtual-thorax" / "lung_locator"
    workers = args.workers or os.cpu_count() or 1
    engine = functools.partial(_on_cluster, args.cluster) if args.cluster else in_processes
    pairs = read_pairs(args.out)
    done = prepare_pairs(args.out.absolute(), pairs, locator.absolute(), known, workers, Bar("pairs"), engine)
    print(
        f"{done.studies} studies in {args.out / STUDIES_FILE}, {done.former} of them checked before; "
        f"{len(done.failed)} pairs are not."
    )
    if known is None:
        print("No label says whether these patients had PE: classifiers cannot be trained or judged on them.")
    for line in done.failed:
        print(f"left out: {line}", file=sys.stderr)
    return EXIT_DONE


def labels(args: argparse.Namespace) -> int:
    """Lists the clinical columns that mention embolism, or joins one with the cohort by patient."""
    from xray2ctpa_core.config import write_text_atomically
    from xray2ctpa_core.data.open_pairs.labels import LABELS_FILE, embolism_columns, join_labels, labels_text

    pairs = read_pairs(args.out)
    tables = args.tables or commons_tables()
    collections = sorted({pair.ct.collection for pair in pairs})
    if not args.column:
        columns = embolism_columns(tables, collections)
        for column in columns:
            print(f"{column.collection}: --table {column.table} --column {column.name}  {column.label}")
            print(f"    {column.values[:500]}")
        if not columns:
            print(
                f"No clinical column of {', '.join(collections)} mentions embolism: nobody says who had PE."
            )
        return EXIT_DONE
    if not (args.table and args.positive and args.negative):
        raise InputError("Expected --table, --positive and --negative beside --column, got not all of them.")
    patients = sorted({pair.ct.patient for pair in pairs})
    joined = join_labels(tables / args.table, args.column, args.positive, args.negative, patients)
    if not joined.labels:
        raise InputError(
            f"Expected PE of some of {len(patients)} patients in {args.table}, got of none; its values: "
            f"{joined.other_words or 'none of these patients'}."
        )
    write_text_atomically(args.out / LABELS_FILE, labels_text(joined.labels))
    positive = sum(joined.labels.values())
    print(
        f"{positive} patients with PE, {len(joined.labels) - positive} without, {joined.unknown} unknown: "
        f"{args.out / LABELS_FILE}."
    )
    if joined.other_words:
        print(f"Neither: {joined.other_words}")
    if joined.contradicted:
        print(f"Both, so unknown: {', '.join(joined.contradicted)}")
    return EXIT_DONE


def cost(args: argparse.Namespace) -> int:
    """Prints disk, time and optimiser steps of a recipe on the cohort, from measured units of each step."""
    from kinds import KINDS

    from xray2ctpa_core.data.open_pairs.cost import read_measured, recipe_cost
    from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE
    from xray2ctpa_core.data.sources.table import read_table
    from xray2ctpa_core.training.recipe import read_recipe

    pairs = read_pairs(args.out)
    prepared = args.out / STUDIES_FILE
    splits = [row.cells["split"] for row in read_table(prepared)] if prepared.is_file() else []
    splits = splits or [pair.split for pair in pairs]
    path = Path(args.recipe) if args.recipe.endswith(".toml") else RECIPES / f"{args.recipe}.toml"
    place = args.place or Path("runs") / path.stem
    settings = {name: kind.settings for name, kind in KINDS.items()}
    recipe = read_recipe(path, {"data": str(args.out), "out": str(place)}, args.set, settings)
    measured = read_measured(args.measured or MEASURED, path.stem)
    costs = list(recipe_cost(recipe.steps, len(splits), splits.count("test"), measured))
    lines: list[tuple[str, ...]] = [("step", "units", "GB", "hours")]
    for one in costs:
        units = f"{one.count} {one.unit}" + (f" of {one.batch}" if one.batch else "")
        gigabytes, hours = (
            "not measured" if value is None else f"{value / unit:.1f}"
            for value, unit in ((one.megabytes, 1000), (one.seconds, 3600))
        )
        lines.append((one.step, units, gigabytes, hours))
    missing = missing_series(args.out, needed_series(pairs, ALTERNATIVES))
    to_fetch = sum(one.megabytes for one in missing) / 1000
    print(f"{len(splits)} pairs by {path.stem}; {to_fetch:.1f} GB are still to be fetched.")
    print_columns(lines)
    there = next(folder for folder in (place, *place.resolve().parents) if folder.exists())
    unmeasured = sum(one.seconds is None for one in costs)
    print(
        f"{sum(one.megabytes or 0 for one in costs) / 1000:.1f} GB and the networks in {place}, where "
        f"{shutil.disk_usage(there).free / 1e9:.1f} are free.\n"
        f"{sum(one.seconds or 0 for one in costs) / 3600:.1f} hours of {measured.name}"
        + (f", and the time of {unmeasured} steps that were not measured" if unmeasured else "")
        + (".\n" if measured.gpu else "; on a GPU: not measured.\n")
        + "Steps of studies share all processors. To measure your machine: "
        f"python Training/measure_recipe.py {path.stem} --data {args.out} --out {place}-measured"
    )
    return EXIT_DONE


def print_columns(lines: list[tuple[str, ...]]) -> None:
    """Prints cells in right-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def folder_store(folder: Path) -> Store:
    """Reads series from ``folder``, where each has a subfolder named by its UID."""

    def copy(series: Series, target: Path) -> None:
        source = folder / series.uid
        if not source.is_dir():
            raise InputError(f"Expected the series at {source}, which is no folder.")
        shutil.copytree(source, target, dirs_exist_ok=True)

    return copy


def commons_client() -> Any:
    """The client of the Imaging Data Commons; raises InputError where idc-index is not installed."""
    try:
        from idc_index import IDCClient
    except ImportError as error:
        raise InputError(
            f"Fetching needs idc-index, which is not installed: {error}.",
            "Install the core with its extra open-data.",
        ) from error
    with commons():
        return IDCClient()


@contextlib.contextmanager
def commons() -> Iterator[None]:
    """Runs idc-index, which raises what its parts raise (requests, subprocess, DuckDB, its own); each becomes
    an InputError."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Expected an answer of the Imaging Data Commons, got: {reason}", "Check the network."
        ) from error


def commons_store(series: Sequence[Series]) -> Store:
    """Reads ``series`` from the Imaging Data Commons by idc-index."""
    client = commons_client()
    logging.getLogger("idc_index").setLevel(logging.ERROR)  # what it did is said here
    # of a million series in its index it searches all for each download, some fifteen seconds long
    client.index = client.index[client.index["SeriesInstanceUID"].isin([one.uid for one in series])]

    def download(one: Series, target: Path) -> None:
        with commons():
            client.download_from_selection(
                str(target), seriesInstanceUID=[one.uid], dirTemplate=None, show_progress_bar=False
            )

    return download


def commons_tables() -> Path:
    """Folder of the clinical tables and their dictionary, fetched by idc-index."""
    from xray2ctpa_core.data.open_pairs.labels import DICTIONARY_FILE

    client = commons_client()
    with commons():
        client.fetch_index("clinical_index")
    dictionary = client.indices_overview["clinical_index"]["file_path"]
    if not (dictionary and client.clinical_data_dir and Path(client.clinical_data_dir).is_dir()):
        raise InputError("Expected the clinical tables, got none from idc-index.", "Check the network.")
    tables = Path(client.clinical_data_dir)
    shutil.copyfile(dictionary, tables / DICTIONARY_FILE)
    return tables


def _on_cluster(spec: str, make: Any, pairs: Any, _workers: int, killed: Any) -> Iterator[Any]:
    from xray2ctpa_core.cluster import on_cluster

    return on_cluster(make, pairs, spec, killed)


def _say(series: Series, wrong: str) -> None:
    print(f"{'failed' if wrong else 'fetched'}: {series.modality} {series.uid}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
