"""XctDiff's Tables 1 and 3 for any set of systems: volumes of unseen people from their radiographs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from xray2ctpa_core.metrics.image import mae, psnr, slice_ssim, ssim, x2ct_psnr
from xray2ctpa_core.metrics.intervals import mean_interval
from xray2ctpa_core.models.codecs.slices import volumes_to_slices

#: Columns of the table: key, title, digits.
COLUMNS = (
    ("psnr", "PSNR, dB", 2),
    ("x2ct_psnr", "PSNR by X2CT-GAN, dB", 2),
    ("ssim", "SSIM 3D", 3),
    ("slice_ssim", "SSIM of slices", 3),
    ("perceptual", "perceptual", 4),
    ("mae", "MAE, HU", 1),
    ("seconds", "s a volume", 2),
)


@torch.no_grad()
def image_scores(
    hu: np.ndarray, reference: np.ndarray, window: tuple[float, float], distance: nn.Module
) -> dict[str, float]:
    """The numbers of `COLUMNS` of one volume, except the seconds.

    Args:
        hu, reference: (D, H, W) HU.
        window: HU in which "psnr", "ssim" and "mae" are computed, and which become -1 to 1 for the distance.
        distance: of slices (N, 1, H, W) in [-1, 1]; its mean over the axial ones.
    """

    def slices(volume: np.ndarray) -> torch.Tensor:
        unit = (np.clip(volume, *window) - window[0]) / (window[1] - window[0])
        return volumes_to_slices(torch.from_numpy(2 * unit.astype(np.float32) - 1)[None, None])

    return {
        "psnr": psnr(hu, reference, window),
        "x2ct_psnr": x2ct_psnr(hu, reference),
        "ssim": ssim(hu, reference, window),
        "slice_ssim": slice_ssim(hu, reference, window),
        "perceptual": float(distance(slices(hu), slices(reference)).mean()),
        "mae": mae(hu, reference, window),
    }


def reconstruction_table(
    rows: Sequence[Mapping[str, Any]], codes_used: Mapping[str, float] | None = None
) -> str:
    """Markdown table: one line for each system in order of appearance, mean over patients with a 95 % t
    interval.

    Args:
        rows: "system", "patient", and the keys of COLUMNS; several of a patient are averaged first.
        codes_used: of systems that are codecs with a codebook, the share of used codes; a column where there
            are any.
    """
    systems = list(dict.fromkeys(str(row["system"]) for row in rows))
    lines = ["| system | patients | " + " | ".join(title for _, title, _ in COLUMNS) + " |"]
    lines.append("|---" * (2 + len(COLUMNS)) + "|")
    if codes_used:
        lines = [lines[0] + " codes used |", lines[1] + "---|"]
    for system in systems:
        own = [row for row in rows if row["system"] == system]
        patients = sorted({str(row["patient"]) for row in own})
        cells = []
        for key, _, digits in COLUMNS:
            values = [np.mean([row[key] for row in own if str(row["patient"]) == p]) for p in patients]
            cells.append(mean_interval(np.array(values)).text(digits))
        if codes_used:
            cells.append(f"{100 * codes_used[system]:.1f} %" if system in codes_used else "-")
        lines.append(f"| {system} | {len(patients)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
