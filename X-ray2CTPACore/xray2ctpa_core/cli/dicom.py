"""`xray2ctpa dicom RESULT_DIR DIR`: a finished result as DICOM, in the study of its radiograph."""

import argparse
import json
import sys
from pathlib import Path

from xray2ctpa_core.constants import EXIT_DONE
from xray2ctpa_core.wording import one_line


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "dicom",
        help="write a finished result as DICOM, in the study of its radiograph",
        description="Writes the volume of a result as a CT series and Grad-CAM as a parametric map, as "
        "generate --dicom does; every instance is marked derived and SYNTHETIC. Needs the extra dicom.",
    )
    parser.add_argument("result", type=Path, metavar="RESULT_DIR", help="what generate wrote")
    parser.add_argument("target", type=Path, metavar="DIR", help="new folder for the DICOM files")
    parser.add_argument(
        "--cxr", type=Path, metavar="PATH", help="the radiograph that RESULT_DIR was made from; if it is "
        "DICOM, the series join its study (default: a patient of their own)",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="as JSON on one line: series, their files, whose study"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    from xray2ctpa_core.generation.dicom_export import export_result, series_of
    from xray2ctpa_core.io.dicom_out import radiograph_header

    export_result(args.result, args.cxr, args.target)
    series = series_of(args.target)
    if args.json:
        joined = args.cxr is not None and radiograph_header(args.cxr) is not None
        sys.stdout.write(json.dumps({"series": series, "in_the_radiographs_study": joined}) + "\n")
    else:
        count = sum(len(files) for files in series.values())
        sys.stdout.write(
            f"Done: {one_line(args.target)}\n{count} files in {len(series)} series, all marked SYNTHETIC.\n"
        )
    return EXIT_DONE
