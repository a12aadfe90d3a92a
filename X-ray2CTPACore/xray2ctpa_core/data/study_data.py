"""The one data set of encoded studies: each step selects the parts that it reads."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.data.latent_cases import (
    LatentCase,
    checked_cases,
    radiograph_files,
    read_encoder_input,
    read_latents,
)
from xray2ctpa_core.data.naming import naming
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.simulation.signs import SIGNS

#: The parts that items can hold.
PARTS = ("latents", "volume", "image", "label", "map", "findings")
_MIRRORED = ("latents", "volume", "image")


class StudyData(Dataset[dict[str, torch.Tensor]]):
    """Items hold "seed" (), the seed of this draw of the case, and the parts in ``holds``:

    - latents: "latents" (C, D, H, W) scaled;
    - volume: "volume" (1, D, H, W) in [-1, 1];
    - image: "image" (1, P, P), the radiograph;
    - label: "label" (), NaN where it is unknown;
    - map: "template_map" (3, *MAP_GRID), NaN where it is unknown;
    - findings: "signs" (S,), the presence of each sign; NaN where unknown.

    Args:
        cases: of one or several indices.
        holds: some of PARTS.
        scaling: of the latents.
        window: HU window (lower, upper) of the volumes.
        radiographs: folder of the step radiographs; None takes the index's own.
        flip: probability that latents, volume and radiograph are mirrored left to right (X-ray2CTPA, section
            4.1: 0.5; mirroring commutes with the autoencoder but for rounding).
        augmented: whether "image" is one of the radiograph's augmented frames, chosen by the seed.
        labelled: whether a case without label is an error.

    Raises:
        InputError: no cases, or one without a required file or label; names file and row.
        ConfigError: latents without scaling, volumes without window.
    """

    def __init__(
        self,
        cases: Sequence[LatentCase],
        holds: Sequence[str],
        scaling: LatentScaling | None = None,
        window: Sequence[float] | None = None,
        radiographs: Path | None = None,
        flip: float = 0.0,
        augmented: bool = False,
        labelled: bool = False,
    ) -> None:
        if labelled or not cases:
            checked_cases(cases)
        if not set(holds) <= set(PARTS):
            raise ConfigError(f"Expected parts out of {', '.join(PARTS)}, got {', '.join(holds)}.")
        if ("latents" in holds and scaling is None) or ("volume" in holds and window is None):
            raise ConfigError("Expected a scaling for latents and a window for volumes.")
        self.cases = list(cases)
        self._holds = tuple(holds)
        self._scaling, self._window = scaling, window
        self._flip, self._augmented = flip, augmented
        self._radiographs = radiograph_files(radiographs, self.cases) if "image" in holds else []
        for case in self.cases:
            if "volume" in holds and not case.volume.is_file():
                raise InputError(f"Expected the volume {case.volume} of {case.where}, got no such file.")

    def __len__(self) -> int:
        return len(self.cases)

    def where(self, place: int) -> str:
        """Description of the case at ``place``, for messages."""
        case = self.cases[place]
        return f"study {case.id} ({case.where})"

    def __getitem__(self, item: tuple[int, int]) -> dict[str, torch.Tensor]:
        place, seed = item
        with naming(lambda: self.where(place)):
            entry = {"seed": torch.tensor(seed)}
            for part in self._holds:
                entry |= getattr(self, f"_{part}")(place, seed)
        if self._flip and float(torch.rand((), generator=torch.Generator().manual_seed(seed))) < self._flip:
            entry |= {name: entry[name].flip(-1) for name in _MIRRORED if name in entry}
        return entry

    def mean_map(self) -> torch.Tensor:
        """(3, *MAP_GRID) float32: the mean of the known maps.

        Raises:
            InputError: no case has one.
        """
        known = [case.map for case in self.cases if case.map is not None]
        if not known:
            raise InputError(
                f"An atlas needs maps of studies into it; {self.cases[0].where} and the others have none.",
                "Set atlas_shape=[], or start from an encoder with an atlas.",
            )
        total = np.zeros((3, *MAP_GRID))
        for file in known:
            total += np.load(file)
        return torch.from_numpy((total / len(known)).astype(np.float32))

    def _latents(self, place: int, seed: int) -> dict[str, torch.Tensor]:  # noqa: ARG002 - one signature
        latents = torch.from_numpy(read_latents(self.cases[place]))
        assert self._scaling is not None
        return {"latents": self._scaling.apply(latents[None])[0]}

    def _volume(self, place: int, seed: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        case = self.cases[place]
        hu = read_volume(case.volume).array.astype(np.float32)
        if not np.isfinite(hu).all():
            raise InputError(
                f"Expected finite HU, got NaN or infinite voxels in {case.volume} of {case.where}."
            )
        assert self._window is not None
        return {"volume": normalise_hu(torch.from_numpy(hu), self._window)[None]}

    def _image(self, place: int, seed: int) -> dict[str, torch.Tensor]:
        variant = 1 + seed if self._augmented else 0
        return {"image": read_encoder_input(self._radiographs[place], self.cases[place].where, variant)}

    def _label(self, place: int, seed: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        label = self.cases[place].label
        return {"label": torch.tensor(torch.nan if label is None else float(label))}

    def _map(self, place: int, seed: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        file = self.cases[place].map
        if file is None:
            return {"template_map": torch.full((3, *MAP_GRID), torch.nan)}
        return {"template_map": torch.from_numpy(np.load(file).astype(np.float32))}

    def _findings(self, place: int, seed: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return {"signs": signs_of(self.cases[place])}


def signs_of(case: LatentCase) -> torch.Tensor:
    """(S,) presence of each sign in a virtual patient, 0 or 1; NaN of a sign that its kind never has, and in
    any other patient."""
    if case.findings is None:
        return torch.full((len(SIGNS),), torch.nan)
    signs = json.loads(case.findings.read_text(encoding="utf-8"))["signs"]
    return torch.tensor([float(signs.get(sign.name, torch.nan)) for sign in SIGNS])
