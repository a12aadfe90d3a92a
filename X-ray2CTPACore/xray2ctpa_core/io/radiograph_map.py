"""A radiograph with the evidence of its score in colour, as a PNG."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from xray2ctpa_core.config import replacing
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.preview import BACKGROUND, MUTED, heated, text_font, write_legend
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.volume import Radiograph

#: Longest side of the picture in pixels, and the height of its foot.
_LONGEST, _FOOT = 1024, 28
_NOTE = "Evidence for PE in the radiograph, Grad-CAM:"


def render_radiograph_map(radiograph: Radiograph, heat: np.ndarray) -> Image.Image:
    """The radiograph under the colours of the evidence, with their legend.

    Args:
        radiograph: as scored.
        heat: (H, W) float32 in 0..1 on its pixels.

    Raises:
        InputError: a map of another shape.
    """
    if heat.shape != radiograph.pixels.shape:
        raise InputError(f"Expected a map of shape {radiograph.pixels.shape}, got {heat.shape}.")
    height, width = heat.shape
    scale = min(1.0, _LONGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    greys = Image.fromarray(np.clip(radiograph.pixels * 255, 0, 255).astype(np.uint8)).convert("RGB")
    evidence = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    picture = Image.new("RGB", (size[0], size[1] + _FOOT), BACKGROUND)
    picture.paste(heated(greys.resize(size, Image.Resampling.LANCZOS), np.asarray(evidence)), (0, 0))
    draw = ImageDraw.Draw(picture)
    draw.text((8, size[1] + 6), _NOTE, MUTED, text_font(14))
    write_legend(draw, (16 + round(draw.textlength(_NOTE, text_font(14))), size[1] + 6))
    return picture


def write_radiograph_map(radiograph: Radiograph, heat: np.ndarray, path: Path) -> None:
    """Writes `render_radiograph_map` as ``path``, whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    picture = render_radiograph_map(radiograph, heat)
    with writing(path), replacing(path, by_several=True) as partial:
        picture.save(partial, "PNG")
