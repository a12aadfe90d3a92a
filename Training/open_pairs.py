"""Open pairs of radiograph and CT from the Imaging Data Commons: select, fetch, prepare.

python Training/open_pairs.py select OUT                 the cohort as a table, from the installed index,
offline python Training/open_pairs.py fetch OUT                  its images; goes on where it was stopped
python Training/open_pairs.py prepare OUT                the study table that preprocessing reads

Needs the extra open-data. Only ``fetch`` reaches the network. docs/open-pairs.md leads through all of it.
"""

import argparse
import shutil
import sys
from pathlib import Path

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.data.open_pairs.fetch import (
    Store,
    fetch_series,
    missing_megabytes,
    needed_series,
)
from xray2ctpa_core.data.open_pairs.pairs import count_patients, select_pairs
from xray2ctpa_core.data.open_pairs.rules import COLLECTIONS, LICENCES, Rules
from xray2ctpa_core.data.open_pairs.series import Series, index_path, index_version, read_index
from xray2ctpa_core.data.open_pairs.table import TABLE_FILE, read_pairs, write_pairs
from xray2ctpa_core.errors import InputError, XRay2CTPAError

#: Radiographs beside the nearest that are fetched, should the gate refuse that.
ALTERNATIVES = 2
COUNT_HEADINGS = (
    "collection", "patients", "(3 days)", "angiography", "(3 days)", "pairs", "(3 days)", "CTs", "(3 days)",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Runs one of the three steps; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("select", help="writes the table of pairs, and prints what there is")
    step.add_argument("out", type=Path, help="folder of the cohort")
    step.add_argument(
        "--index", type=Path, help="another index, a Parquet file (default: the installed package's)"
    )
    step.add_argument("--days", type=int, default=1, help="at most between radiograph and CT (default: 1)")
    step.add_argument("--angiography", action="store_true", help="CT pulmonary angiographies alone")
    step.add_argument(
        "--collections", nargs="+", default=list(COLLECTIONS), help="default: all that have pairs"
    )
    step.add_argument("--licences", nargs="+", default=list(LICENCES), help=f"default: {', '.join(LICENCES)}")
    step.set_defaults(run=select)
    step = steps.add_parser("fetch", help="fetches the images of the table from the Imaging Data Commons")
    step.add_argument("out", type=Path)
    step.add_argument("--split", choices=("train", "validation", "test"), help="one split alone")
    step.add_argument("--first", type=int, default=0, help="so many pairs alone, from the first")
    step.add_argument(
        "--store", type=Path, help="a folder with a subfolder for each series, in place of the network"
    )
    step.add_argument("--dry-run", action="store_true", help="says how much there is to fetch, and ends")
    step.set_defaults(run=fetch)
    step = steps.add_parser("prepare", help="checks the images and writes the study table")
    step.add_argument("out", type=Path)
    step.add_argument(
        "--locator", type=Path, help="folder of a lung locator (default: the embedded bundle's)"
    )
    step.add_argument(
        "--labels", type=Path, help="table with the columns patient and label, where you have PE"
    )
    step.set_defaults(run=prepare)
    args = parser.parse_args(arguments)
    try:
        return args.run(args)
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
    lines = [COUNT_HEADINGS]
    for collection, count in count_patients(series, rules).items():
        lines.append((collection, *(str(number) for number in vars(count).values())))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COUNT_HEADINGS))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
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
    print(f"{args.out / TABLE_FILE}, SHA-256 {digest}")
    return EXIT_DONE


def fetch(args: argparse.Namespace) -> int:
    """Fetches the series of the table."""
    pairs = [pair for pair in read_pairs(args.out) if args.split in (None, pair.split)]
    series = needed_series(pairs[: args.first or None], ALTERNATIVES)
    megabytes, free = missing_megabytes(args.out, series), shutil.disk_usage(args.out).free / 1e6
    print(
        f"{len(series)} series, {megabytes / 1000:.1f} GB of them missing; "
        f"{free / 1000:.1f} GB of disk are free."
    )
    if args.dry_run:
        return EXIT_DONE
    store = folder_store(args.store) if args.store else commons_store()
    done = fetch_series(args.out, series, store, _say)
    print(f"{done.complete} of {len(series)} series are there, {done.former} of them from before.")
    for line in done.failed:
        print(f"failed: {line}", file=sys.stderr)
    return EXIT_DONE


def prepare(args: argparse.Namespace) -> int:
    """Writes the study table of what was fetched."""
    from xray2ctpa_core.data.open_pairs.prepare import STUDIES_FILE, prepare_pairs, read_labels
    from xray2ctpa_core.models.framing.lung_locator import LungLocator
    from xray2ctpa_core.pipelines.loading import EMBEDDED

    labels = read_labels(args.labels) if args.labels else None
    locator = args.locator or EMBEDDED / "virtual-thorax" / "lung_locator"
    network = LungLocator.from_pretrained(locator, use_safetensors=True).eval()
    done = prepare_pairs(args.out, read_pairs(args.out), network, labels)
    print(f"{done.studies} studies in {args.out / STUDIES_FILE}; {len(done.failed)} pairs are not.")
    if labels is None:
        print("No label says whether these patients had PE: classifiers cannot be trained or judged on them.")
    for line in done.failed:
        print(f"left out: {line}", file=sys.stderr)
    return EXIT_DONE


def folder_store(folder: Path) -> Store:
    """Series that lie in ``folder``, each in a subfolder of its UID."""

    def copy(series: Series, target: Path) -> None:
        source = folder / series.uid
        if not source.is_dir():
            raise InputError(f"Expected the series at {source}, which is no folder.")
        shutil.copytree(source, target, dirs_exist_ok=True)

    return copy


def commons_store() -> Store:
    """The Imaging Data Commons, through idc-index."""
    try:
        from idc_index import IDCClient
    except ImportError as error:
        raise InputError(
            f"Fetching needs idc-index, which is not installed: {error}.",
            "Install the core with its extra open-data.",
        ) from error
    client = IDCClient()

    def download(series: Series, target: Path) -> None:
        client.download_from_selection(
            downloadDir=str(target), seriesInstanceUID=[series.uid], dirTemplate=None, show_progress_bar=False
        )

    return download


def _say(series: Series, wrong: str) -> None:
    print(f"{'failed' if wrong else 'fetched'}: {series.modality} {series.uid}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
