"""Features of volumes' axial slices with labels and radiographs: input of the CMKD teacher and students."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.data.latent_cases import LatentCase, checked_cases, radiograph_files, read_encoder_input
from xray2ctpa_core.data.sources.table import csv_text
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading

#: One row for each study; ``features`` names an .npy file beside the table with (S, F) numbers, slices from
#: foot to head: PENet's slice features, or those of any 2D encoder.
FEATURES_TABLE = "features.csv"
COLUMNS = ("id", "patient", "label", "split", "features")
_LABELS = {"0": 0, "1": 1}


def write_features_table(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes rows with COLUMNS to FEATURES_TABLE."""
    cells = ([row[column] for column in COLUMNS] for row in rows)
    write_text_atomically(folder / FEATURES_TABLE, csv_text(COLUMNS, cells))


def read_feature_cases(folder: Path) -> list[LatentCase]:
    """The studies of ``folder``'s FEATURES_TABLE, in order; their ``volume`` is the file of features.

    Raises:
        InputError: no table, other columns, a label that is not 0 or 1, or a missing file; names the row.
    """
    table = Path(folder) / FEATURES_TABLE
    if not table.is_file():
        raise InputError(
            f"Expected {FEATURES_TABLE} in {folder}.", "Run the step slice-features of the recipe cmkd."
        )
    with reading(table, "CSV"), table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = []
    for number, row in enumerate(rows):
        where = f"{table}, row {number + 1}"
        absent = [column for column in COLUMNS if row.get(column) is None]
        if absent:
            raise InputError(f"Expected the columns {', '.join(COLUMNS)} in {where}, got no {absent[0]}.")
        if row["label"] not in _LABELS:
            raise InputError(f"Expected a label of 0 or 1, got {row['label']!r} in {where}.")
        path = table.parent / row["features"]
        if not path.is_file():
            raise InputError(f"Expected slice features at {path} ({where}), got no such file.")
        cases.append(
            LatentCase(number, path, row["id"], row["patient"], _LABELS[row["label"]], row["split"], where)
        )
    if not cases:
        raise InputError(f"Expected at least one study in {table}, got none.")
    return cases


def read_slices(case: LatentCase) -> torch.Tensor:
    """(S, F) float32; raises InputError where the file holds anything else, naming it."""
    with reading(case.volume, "NumPy .npy"):
        values = np.load(case.volume, allow_pickle=False)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise InputError(
            f"Expected finite slice features (slices, width), got shape {values.shape} in {case.volume}."
        )
    return torch.from_numpy(values.astype(np.float32))


class PairedCases(Dataset[dict[str, torch.Tensor]]):
    """Items: "slices" (S, F), padded with 0 to the longest study; "image" (1, P, P) where ``radiographs`` is
    given; "label" (), "seed" ().

    Args:
        cases: of `read_feature_cases`.
        radiographs: folder of the step radiographs' cases, or None.
        flip: probability that a radiograph is mirrored.
        longest: S; None takes that of the longest case.

    Raises:
        InputError: no cases, one without radiograph, or features of different widths; names file and row.
    """

    def __init__(
        self,
        cases: Sequence[LatentCase],
        radiographs: Path | None = None,
        flip: float = 0.0,
        longest: int | None = None,
    ) -> None:
        self.cases, self._flip = checked_cases(cases), flip
        self._radiographs = None if radiographs is None else radiograph_files(radiographs, self.cases)
        self._slices = [read_slices(case) for case in self.cases]
        widths = {slices.shape[1] for slices in self._slices}
        if len(widths) > 1:
            raise InputError(f"Expected slice features of one width, got {sorted(widths)}.")
        self._longest = longest or max(len(slices) for slices in self._slices)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        case, slices = self.cases[place], self._slices[place][: self._longest]
        filled = torch.zeros(self._longest, slices.shape[1])
        filled[: len(slices)] = slices
        entry = {"slices": filled, "label": torch.tensor(float(case.label or 0)), "seed": torch.tensor(seed)}
        if self._radiographs is not None:
            image = read_encoder_input(self._radiographs[place], case.where)
            if (
                self._flip
                and float(torch.rand((), generator=torch.Generator().manual_seed(seed))) < self._flip
            ):
                image = image.flip(-1)
            entry["image"] = image
        return entry


class EmbeddingPairs(Dataset[dict[str, torch.Tensor]]):
    """Items: "embedding" (E,) of the radiograph, "target" (E,) of the CTPA, "label" (), "seed" ().

    Args:
        cases: with labels.
        embeddings, targets: (N, E), outputs of frozen networks in the cases' order.
    """

    def __init__(self, cases: Sequence[LatentCase], embeddings: torch.Tensor, targets: torch.Tensor) -> None:
        self.cases = checked_cases(cases)
        if not len(embeddings) == len(targets) == len(self.cases):
            raise InputError(
                f"Expected one embedding of each kind a case, got {len(embeddings)} and {len(targets)} for "
                f"{len(self.cases)}."
            )
        self._embeddings, self._targets = embeddings.float(), targets.float()

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        label = torch.tensor(float(self.cases[place].label or 0))
        return {
            "embedding": self._embeddings[place],
            "target": self._targets[place],
            "label": label,
            "seed": torch.tensor(seed),
        }
