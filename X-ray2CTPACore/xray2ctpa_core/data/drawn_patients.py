"""Virtual patients as a data set: drawn on the device when they are asked for, a batch at once."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients
from xray2ctpa_core.simulation.people.population import Population

#: Patients drawn together: memory of the device is bounded by it.
AT_ONCE = 8
#: Cases of an epoch where each is new.
_WITHOUT_END = 4096


class DrawnPatients(Dataset[dict[str, torch.Tensor]]):
    """Patients without end, or a number of them again and again.

    Items are asked for with (case, seed), as `training.loop` does. New patients are those of the seed of a
    batch's first; kept ones are those of their case.

    Args:
        population: of people to draw from.
        shape: of volume and radiograph.
        kept: so many patients are drawn once and stay in memory; 0: each is new.
    """

    def __init__(self, population: Population, shape: Shape, kept: int = 0) -> None:
        self._population, self._shape, self._kept = population, shape, kept
        self._chunks: dict[int, list[dict[str, torch.Tensor]]] = {}

    def __len__(self) -> int:
        return self._kept or _WITHOUT_END

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[dict[str, torch.Tensor]]:
        """The cases of a batch: torch's DataLoader asks for them together."""
        if self._kept:
            return [self._chunk(case // AT_ONCE)[case % AT_ONCE] for case, _ in keys]
        generator = torch.Generator(self._population.values.device).manual_seed(keys[0][1])
        cases: list[dict[str, torch.Tensor]] = []
        while len(cases) < len(keys):
            cases += self._drawn(min(AT_ONCE, len(keys) - len(cases)), generator)
        return cases

    def _chunk(self, number: int) -> list[dict[str, torch.Tensor]]:
        """AT_ONCE kept patients."""
        if number not in self._chunks:
            generator = torch.Generator(self._population.values.device).manual_seed(number)
            self._chunks[number] = self._drawn(AT_ONCE, generator)
        return self._chunks[number]

    def _drawn(self, count: int, generator: torch.Generator) -> list[dict[str, torch.Tensor]]:
        drawn = as_tensors(draw_patients(self._population, count, self._shape, generator))
        return [{name: value[case] for name, value in drawn.items()} for case in range(count)]


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
