"""Virtual patients as a data set: drawn on the device during training, a batch at once."""

from collections.abc import Callable, Sequence

import torch
from torch.utils.data import Dataset

from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients
from xray2ctpa_core.simulation.people.findings import Findings, draw_findings
from xray2ctpa_core.simulation.people.population import Population

#: Number of patients drawn together, which bounds the device's memory.
AT_ONCE = 8
#: Number of cases in an epoch when every patient is new.
_WITHOUT_END = 4096


class DrawnPatients(Dataset[dict[str, torch.Tensor]]):
    """An endless number of new patients, or a fixed number of repeated ones.

    Items are indexed by (case, seed), as in `training.loop`. New patients depend on the seed of the batch's
    first item, kept ones on their case.

    Args:
        population: people from which patients are drawn.
        shape: of volume and radiograph.
        kept: number of patients that are drawn once and kept in memory; 0 draws a new one for each item.
        findings: draws their findings.
        keys: names of the tensors of an item; () for all.
    """

    def __init__(
        self,
        population: Population,
        shape: Shape,
        kept: int = 0,
        findings: Callable[[int, torch.Generator], Findings] = draw_findings,
        keys: Sequence[str] = (),
    ) -> None:
        self._population, self._shape, self._kept = population, shape, kept
        self._findings, self._keys = findings, tuple(keys)
        self._chunks: dict[int, list[dict[str, torch.Tensor]]] = {}

    def __len__(self) -> int:
        return self._kept or _WITHOUT_END

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[dict[str, torch.Tensor]]:
        """The items of a batch, which torch's DataLoader requests together."""
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
        drawn = as_tensors(
            draw_patients(self._population, count, self._shape, generator, draw=self._findings)
        )
        names = self._keys or tuple(drawn)
        return [{name: drawn[name][case].clone() for name in names} for case in range(count)]


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
        "opaque": batch.opaque,
        "side_mm": batch.side_mm,
    }
