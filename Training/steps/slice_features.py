"""Features of the axial slices of preprocessed CTPAs by any 2D encoder, as input of the CMKD teacher.

Features from elsewhere (PENet's) need only the table features.csv with the columns id, patient, label, split
and features; the last names an .npy file of shape (slices, width) for each study.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.cases import case_rows, save_array
from xray2ctpa_core.data.slice_features import write_features_table
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.metrics.perceptual import PerceptualDistance
from xray2ctpa_core.models.encoders.filling_defects import FillingDefects
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.encoders import make_encoder
from xray2ctpa_core.training.settings.cmkd import SliceFeaturesSettings


class StagePooling(nn.Module):
    """(B, 1, H, W) in [-1, 1] -> mean and maximum of the features of each stage, (B, 2 * channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PerceptualDistance()

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        stages = self.network.features(slices)
        return torch.cat([pooled for x in stages for pooled in (x.mean((2, 3)), x.amax((2, 3)))], 1)


def whole_volume(folder: Path) -> np.ndarray:
    """(S, H, W) float32 HU of a preprocessed scan, whose slices may be distributed over several files."""
    parts = [read_volume(path).array for path in sorted(folder.glob("ctpa*.nii.gz"))]
    if not parts:
        raise InputError(f"Expected volumes ctpa*.nii.gz in {folder}, found none.", "Run the step ctpa.")
    hu = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.float32)
    for number, part in enumerate(parts):
        hu[number :: len(parts)] = part
    return hu


@torch.no_grad()
def run(config: SliceFeaturesSettings, out: Path) -> None:
    """Writes ``out``/features/ID.npy, (slices, width) float32 from foot to head, and features.csv."""
    ready = {"efficientnet-lite0": StagePooling, "filling-defects": FillingDefects}
    encoder: nn.Module = ready[config.encoder]() if config.encoder in ready else make_encoder(config).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder.to(device)
    rows, bar = [], Bar("slices")
    studies = case_rows(Path(config.ctpa))
    (out / "features").mkdir(parents=True, exist_ok=True)
    for done, study in enumerate(studies, 1):
        name = f"features/{study['id']}.npy"
        if not (out / name).is_file():
            hu = whole_volume(Path(config.ctpa) / study["folder"])[:: config.every]
            slices = normalise_hu(torch.from_numpy(hu), config.window)[:, None]
            parts = [encoder(part.to(device)).float().cpu() for part in slices.split(config.batch_size)]
            save_array(torch.cat(parts).numpy(), out / name)
        rows.append({key: study[key] for key in ("id", "patient", "label", "split")} | {"features": name})
        bar(done, len(studies))
    write_features_table(out, rows)
