"""Virtual patients as a data set: drawn on the device when they are asked for, a batch at once."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients
from xray2ctpa_core.simulation.people.population import Population

#: Patients drawn together: memory of the device is bounded by it.
AT_ONCE = 8


class DrawnPatients(Dataset[dict[str, torch.Tensor]]):
    """As many patients as asked for; items are asked for with (case, seed), as `training.loop` does, and are
    those of the seed of the batch's first.

    Args:
        population: of people to draw from.
        shape: of volume and radiograph.
        length: cases of an epoch; no two are alike all the same.
    """

    def __init__(self, population: Population, shape: Shape, length: int = 1 << 20) -> None:
        self._population, self._shape, self._length = population, shape, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[dict[str, torch.Tensor]]:
        """The cases of a batch: torch's DataLoader asks for them together."""
        device = self._population.values.device
        generator = torch.Generator(device).manual_seed(keys[0][1])
        cases: list[dict[str, torch.Tensor]] = []
        while len(cases) < len(keys):
            some = min(AT_ONCE, len(keys) - len(cases))
            drawn = as_tensors(draw_patients(self._population, some, self._shape, generator))
            cases += [{name: value[case] for name, value in drawn.items()} for case in range(some)]
        return cases


def as_tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch's tensors by name."""
    return {
        "volume": batch.volume,
        "image": batch.image,
        "template_map": batch.template_map,
        "person": batch.person,
        "pe": batch.pe,
        "signs": batch.signs,
        "lungs": batch.lungs,
        "side_mm": batch.side_mm,
    }
