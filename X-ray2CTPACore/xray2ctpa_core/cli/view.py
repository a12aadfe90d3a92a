"""`xray2ctpa view`: a page with Slicer's own views that shows a result, or generates one from a
radiograph."""

import argparse
import importlib.util
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from xray2ctpa_core.cli.generate import HYPOTHESIS
from xray2ctpa_core.constants import DEFAULT_BUNDLE, EXIT_DONE, LOOPBACK
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io import result_files

if TYPE_CHECKING:
    from xray2ctpa_core.viewer.security import Door

#: Import names of the packages of the extra ``viewer``.
VIEWER_PACKAGES = ("slicer", "vtk", "trame_slicer", "aiohttp")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        "view",
        help="show a result in a browser, in 3D Slicer's own views, or generate one there",
        description="Serves a page on this machine: the radiograph, three planes and the volume rendering of "
        "a result. Without a result it takes a radiograph and generates from it. " + HYPOTHESIS,
    )
    parser.add_argument(
        "subject", nargs="?", type=Path, metavar="RESULT_DIR|CXR", help="a result folder, or a radiograph"
    )
    parser.add_argument("--cxr", type=Path, metavar="PATH", help="the radiograph of RESULT_DIR in full size")
    parser.add_argument(
        "--truth", type=Path, metavar="CTPA", help="a true CTPA in the result's patient space to compare with"
    )
    parser.add_argument(
        "--bundle",
        default=DEFAULT_BUNDLE,
        metavar="NAME|DIR",
        help="weights to generate with (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="address to listen at (default: %(default)s, this machine only); visitors need the "
        "token in the address that is printed",
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand until it is interrupted."""
    return show_page(
        args.subject,
        args.cxr,
        args.truth,
        bundle=args.bundle,
        host=args.host,
        port=args.port,
        open_browser=not args.no_browser,
    )


def show_page(
    subject: Path | None,
    cxr: Path | None = None,
    truth: Path | None = None,
    bundle: str = DEFAULT_BUNDLE,
    host: str = LOOPBACK,
    port: int = 0,
    open_browser: bool = True,
) -> int:
    """Serves the page until the process is interrupted; raises InputError where there is nothing to show."""
    require_viewer()
    for path in (subject, cxr, truth):
        if path is not None and not path.exists():
            raise InputError(f"Expected a file or a folder, got {path}, which does not exist.")
    is_result = subject is not None and (subject / result_files.RECORD).is_file()
    if cxr is not None and not is_result:
        raise InputError("Expected --cxr beside a result folder, got it without one.", "Name the folder.")
    from xray2ctpa_core.viewer import server
    from xray2ctpa_core.viewer.presets import presets
    from xray2ctpa_core.viewer.security import is_loopback
    from xray2ctpa_core.viewer.session import Opening

    presets(bundle)  # raises an error for a bundle that does not exist
    if is_result and subject is not None:
        from xray2ctpa_core.viewer import case

        case.check(subject, cxr, truth)
        opening = Opening(subject.absolute(), cxr and cxr.absolute(), truth and truth.absolute(), bundle)
    else:
        opening = Opening(None, subject and subject.absolute(), truth and truth.absolute(), bundle)

    def announce(door: "Door") -> None:
        name = server.machine_name() if host in ("0.0.0.0", "::") else ""
        sys.stdout.write(f"Open {door.address(name)} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        if not is_loopback(host):
            sys.stderr.write(
                "Warning: other machines can reach this page, over a connection without encryption. Give the "
                "address with its token only to people who may see its content; radiographs that they upload "
                "come to this machine.\n"
            )
        if open_browser and has_screen():
            webbrowser.open(door.ticket_address(name))

    server.run(opening, host, port, announce)
    return EXIT_DONE


def require_viewer() -> None:
    """Raises InputError, naming the extra, where a package of it is missing."""
    missing = [name for name in VIEWER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"The page needs {', '.join(missing)}, which the base installation does not include.",
            "Install the extra viewer: in a checkout, pip install './X-ray2CTPACore[viewer]'.",
        )


def has_screen() -> bool:
    """Whether the command was started in a terminal on a machine with a screen."""
    screen = (
        sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return bool(screen) and sys.stdout.isatty()
