"""Several people's CTs on the device, on one grid each about the lungs' middle, ready to be sampled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.people.person import BLOOD_HU, VOXEL_MM, Person
from xray2ctpa_core.simulation.people.space import displaced, inverted

#: Half extents (z, y, x) in mm of the grid on which every person lies.
GRID_HALF_MM = (220.0, 160.0, 220.0)
#: What is held of each voxel.
CHANNELS = ("native", "lungs", "enhancement", "arteries", "heart")
#: Enhancement in HU that a CT without contrast medium is given in the chambers and great vessels.
_GIVEN_HU = 230.0
#: What stands for lung where a CT that cuts it has ended.
_SOFT_HU = 40.0
_BLOOD = (labels.HEART, labels.AORTA, labels.PULMONARY_ARTERIES, labels.PULMONARY_VEINS)


@dataclass(frozen=True)
class Population:
    """People to draw from.

    Attributes:
        names: of the people.
        values: (N, len(CHANNELS), D, H, W): HU without contrast medium, share of lung, what the medium adds
            (HU), shares of pulmonary artery and heart; half precision on an accelerator.
        voxel_mm: edge of a voxel.
        to_person: (N, 3, NODES, NODES, NODES) mm, from the reference's space into each person's.
        to_reference: the same, back.
    """

    names: tuple[str, ...]
    values: torch.Tensor
    voxel_mm: float
    to_person: torch.Tensor
    to_reference: torch.Tensor

    def without(self, *names: str) -> "Population":
        """The others."""
        kept = [number for number, name in enumerate(self.names) if name not in names]
        return self.only(kept)

    def only(self, numbers: Sequence[int]) -> "Population":
        """The people of these numbers."""
        index = list(numbers)
        return Population(
            tuple(self.names[n] for n in index),
            self.values[index],
            self.voxel_mm,
            self.to_person[index],
            self.to_reference[index],
        )

    def sample(self, person: int, points: torch.Tensor, channels: Sequence[str] = CHANNELS) -> torch.Tensor:
        """(1, len(channels), d, h, w) float32 at points (1, 3, d, h, w) in mm of that person's space."""
        chosen = [CHANNELS.index(name) for name in channels]
        first, last = min(chosen), max(chosen) + 1
        half = torch.tensor(GRID_HALF_MM, device=points.device, dtype=points.dtype).view(1, 3, 1, 1, 1)
        where = (points / half).flip(1).permute(0, 2, 3, 4, 1)
        values = self.values[person : person + 1, first:last]
        found = functional.grid_sample(
            values, where.to(values.dtype), padding_mode="border", align_corners=True
        )
        return found[:, [number - first for number in chosen]].float()

    def volumes_in_reference(self, points: torch.Tensor, channels: Sequence[str]) -> torch.Tensor:
        """(N, len(channels), d, h, w) float32: everybody at points of the reference's space."""
        return torch.cat(
            [
                self.sample(number, displaced(points, self.to_person[number : number + 1]), channels)
                for number in range(len(self.names))
            ]
        )


def load_population(
    people: Sequence[Person], device: torch.device | str = "cpu", voxel_mm: float = VOXEL_MM
) -> Population:
    """Puts people on the device. ``voxel_mm`` coarser than VOXEL_MM averages first."""
    half_precision = torch.device(device).type == "cuda"
    values = torch.stack(
        [
            _on_grid(person, voxel_mm).to(device).to(torch.half if half_precision else torch.float)
            for person in people
        ]
    )
    to_person = torch.from_numpy(np.stack([person.displacement for person in people])).to(device)
    return Population(
        tuple(person.name for person in people), values, voxel_mm, to_person, inverted(to_person)
    )


def _on_grid(person: Person, voxel_mm: float) -> torch.Tensor:
    """(len(CHANNELS), D, H, W) float32 about the lungs' middle; beyond the CT its border goes on."""
    blood = np.isin(person.organs, _BLOOD) & (person.hu > -50)
    native = person.native_hu
    if person.enhanced:
        enhancement = person.hu - native
    else:
        enhancement = _GIVEN_HU * ndimage.gaussian_filter((blood & (native > 0)).astype(np.float32), 0.7)
        native = np.where(blood, np.minimum(native, BLOOD_HU + 20), native)
    channels = [
        native,
        person.lungs,
        enhancement,
        person.organs == labels.PULMONARY_ARTERIES,
        person.organs == labels.HEART,
    ]
    ended = [
        np.pad(np.asarray(channel, np.float32), ((1, 1), (0, 0), (0, 0)), "edge") for channel in channels
    ]
    for end in (0, -1):  # where a CT ends, its body goes on, without lungs
        lung = ended[1][end] > 0.5
        ended[0][end][lung] = _SOFT_HU
        for channel in ended[1:]:
            channel[end] = 0
    stacked = torch.from_numpy(np.stack(ended))[None]
    factor = voxel_mm / VOXEL_MM
    if factor > 1:
        kernel = max(1, round(factor))
        stacked = functional.avg_pool3d(stacked, kernel, 1, kernel // 2, count_include_pad=False)
    axes = [torch.linspace(-half, half, 2 * round(half / voxel_mm) + 1) for half in GRID_HALF_MM]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] / VOXEL_MM
    shift = 0.5 if factor > 1 and kernel % 2 == 0 else 0.0
    centre = torch.from_numpy(np.asarray(person.centre) + np.array([1.0, 0.0, 0.0])).float()
    index = index + centre.view(1, 3, 1, 1, 1) + shift
    size = torch.tensor(stacked.shape[2:]).view(1, 3, 1, 1, 1)
    unit = (2 * index / (size - 1) - 1).flip(1).permute(0, 2, 3, 4, 1)
    return functional.grid_sample(stacked, unit, padding_mode="border", align_corners=True)[0]
