"""Keeps a picture that a test took as a screenshot of the README: small, and with the bundle that it shows.

Run as a script: ``kept_pictures.py PICTURE SCREENSHOT``, as `make screenshots` does.
"""

import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.pipelines.bundle import read_bundle_json
from xray2ctpa_core.pipelines.loading import resolve_bundle

#: Bytes that a screenshot may have: every clone carries it.
MAX_BYTES = 300_000
#: Name of the PNG's text that says which bundle it shows.
SHOWS = "Bundle"


def shipped_bundle() -> str:
    """Name and version of the bundle that ships, as a screenshot names them."""
    info = read_bundle_json(resolve_bundle(DEFAULT_BUNDLE))
    return f"{info.name} {info.version}"


def keep(picture: Path, screenshot: Path) -> None:
    """Writes ``picture`` to ``screenshot`` in at most 80 colours, with SHOWS."""
    text = PngInfo()
    text.add_text(SHOWS, shipped_bundle())
    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(80, Image.Quantize.MAXCOVERAGE, 4, dither=Image.Dither.NONE)
        small.save(screenshot, optimize=True, pnginfo=text)


if __name__ == "__main__":
    keep(*map(Path, sys.argv[1:]))
