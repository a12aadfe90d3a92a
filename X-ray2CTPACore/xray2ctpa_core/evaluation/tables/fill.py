"""Tables filled from arms; a cell holds a measured number or "not measured"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xray2ctpa_core.data.sources.table import csv_text
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.markdown import table as markdown_table
from xray2ctpa_core.evaluation.tables.arms import Arm
from xray2ctpa_core.evaluation.tables.cells import NOT_MEASURED, Cell, Comparison, cell_text, cell_values
from xray2ctpa_core.evaluation.tables.classifier import (
    Decisions,
    classifier_numbers,
    compare_accuracies,
    compare_aurocs,
    decide,
)
from xray2ctpa_core.evaluation.tables.definition import (
    CLASSIFIER_COLUMNS,
    COLUMNS,
    GENERATOR_COLUMNS,
    TableDefinition,
    TableRow,
    digits_of,
)
from xray2ctpa_core.evaluation.tables.generator import MeasuredPair, compare_pairs, generator_numbers
from xray2ctpa_core.training.arms import PREDICTIONS_FILE

MCNEMAR = "McNemar against"
LABEL, PATIENTS, REPORTED, SOURCE = "arm", "patients", "reported", "source of reported"
NOTE = (
    "Measured here, with 95 % intervals ([-]: none, for one value alone or equal ones): AUROCs by DeLong on "
    "the logit scale, patients ranked against those of the same fold, whose model gave their scores; rates "
    "by Wilson, at a threshold that Youden's index chose on each fold's validation patients; means over "
    "patients and differences by Student's t; Fréchet distances by jackknife over patients (they grow as "
    "patients get fewer: compare equal numbers only). n in a cell: patients, where fewer than in the row "
    "could be measured. AUROCs are compared by DeLong's paired test, accuracies by McNemar's exact test, on "
    "the patients that both arms have. What is reported stands in its own column and comes from other "
    "patients."
)


@dataclass(frozen=True)
class MeasuredArm:
    """An arm with its numbers by column; ``tested`` and ``pairs`` are for comparisons."""

    arm: Arm
    numbers: Mapping[str, Cell]
    tested: Decisions | None
    pairs: Sequence[MeasuredPair]

    def patients(self, columns: Sequence[str]) -> str:
        """How many ``columns`` were measured on: "86 (31 with PE)", "60 volumes" or both."""
        parts = []
        if self.tested is not None and set(columns) & set(CLASSIFIER_COLUMNS):
            parts.append(f"{len(self.tested.labels)} ({int(self.tested.labels.sum())} with PE)")
        if self.pairs and set(columns) & set(GENERATOR_COLUMNS):
            parts.append(f"{len(self.pairs)} volumes")
        return ", ".join(parts) or NOT_MEASURED


def measure_arm(arm: Arm, pairs: Sequence[MeasuredPair]) -> MeasuredArm:
    """The arm's numbers from its predictions and its measured pairs.

    Raises:
        InputError: predictions that allow no AUROC; it names the arm's folder.
    """
    try:
        tested = decide(arm.predictions) if arm.predictions else None
        numbers = {} if tested is None else classifier_numbers(tested)
    except InputError as error:
        raise InputError(f"{arm.file(PREDICTIONS_FILE)}: {error.message}", error.hint) from error
    return MeasuredArm(arm, numbers | (generator_numbers(pairs) if pairs else {}), tested, pairs)


@dataclass(frozen=True)
class FilledTable:
    """A table's headings and cells.

    Attributes:
        definition: of the table.
        headings: of the columns.
        digits: after the point, of each column.
        lines: rows of cells, as long as ``headings``.
        notes: sentences below it.
    """

    definition: TableDefinition
    headings: tuple[str, ...]
    digits: tuple[int, ...]
    lines: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """ "Table 1: ..."."""
        return f"Table {self.definition.number}: {self.definition.title}"

    def texts(self) -> list[list[str]]:
        """The cells as text."""
        return [[cell_text(c, d) for c, d in zip(line, self.digits, strict=True)] for line in self.lines]

    def markdown(self) -> str:
        """Title, table and notes."""
        escaped = [[text.replace("|", "\\|") for text in line] for line in self.texts()]
        return "\n\n".join([f"## {self.title}", markdown_table(self.headings, escaped), *self.notes]) + "\n"

    def csv(self) -> str:
        """The numbers alone, an interval's ends, the patients compared and p in columns of their own."""
        values = [[cell_values(cell) for cell in line] for line in self.lines]
        columns = [
            (place, suffix)
            for place in range(len(self.headings))
            for suffix in dict.fromkeys(s for line in values for s in ["", *line[place]])
        ]
        headings = [f"{self.headings[place]} {suffix}".strip() for place, suffix in columns]
        return csv_text(
            headings, ([line[place].get(suffix, "") for place, suffix in columns] for line in values)
        )


def fill_table(
    definition: TableDefinition,
    arms: Mapping[str, MeasuredArm],
    titles: Mapping[str, str],
    image_note: str = "",
) -> FilledTable:
    """The table with all numbers of the arms.

    Args:
        definition: rows and columns.
        arms: by name; the row of a missing arm reads "not measured".
        titles: headings of fvd and fid: which features they were taken in.
        image_note: a sentence below tables with numbers of volumes.
    """
    named = {c: titles.get(c, COLUMNS[c]) for c in (*definition.metrics, *definition.compare)}
    reference = arms.get(definition.reference)
    label = next((row.label for row in definition.rows if row.arm == definition.reference), "")
    compared = [
        f"{named[column]}, {MCNEMAR if column == 'accuracy' else 'minus'}: {label}"
        for column in definition.compare
    ]
    headings = [LABEL, PATIENTS, *(named[c] for c in definition.metrics), *compared]
    digits = [0, 0, *(digits_of(c) for c in (*definition.metrics, *definition.compare))]
    lines = [_line(row, definition, arms.get(row.arm), reference) for row in definition.rows]
    if any(row.reported for row in definition.rows):
        headings, digits = [*headings, REPORTED, SOURCE], [*digits, 0, 0]
        lines = [
            (*line, _reported(row), row.source) for line, row in zip(lines, definition.rows, strict=True)
        ]
    of_volumes = image_note if set(definition.metrics) & set(GENERATOR_COLUMNS) else ""
    notes = tuple(text for text in (definition.note, of_volumes, NOTE) if text)
    return FilledTable(definition, tuple(headings), tuple(digits), tuple(lines), notes)


def _line(
    row: TableRow, definition: TableDefinition, arm: MeasuredArm | None, reference: MeasuredArm | None
) -> tuple[Cell, ...]:
    if arm is None:
        count = 1 + len(definition.metrics) + len(definition.compare)
        return (row.label, *[NOT_MEASURED] * count)
    numbers = [arm.numbers.get(column, NOT_MEASURED) for column in definition.metrics]
    comparisons = [_compared(arm, reference, column) for column in definition.compare]
    return (row.label, arm.patients(definition.metrics), *numbers, *comparisons)


def _compared(arm: MeasuredArm, reference: MeasuredArm | None, column: str) -> Cell:
    if reference is arm:
        return "reference"
    if reference is None or arm.arm.description.dataset != reference.arm.description.dataset:
        return NOT_MEASURED
    found: Comparison | None = None
    if column in ("auroc", "accuracy"):
        compare = compare_aurocs if column == "auroc" else compare_accuracies
        if arm.tested is not None and reference.tested is not None:
            found = compare(arm.tested, reference.tested)
    else:
        found = compare_pairs(arm.pairs, reference.pairs, column)
    return NOT_MEASURED if found is None else found


def _reported(row: TableRow) -> str:
    """ "PSNR dB 19.41; LPIPS (AlexNet) 0.14"; the short names of what a publication prints."""
    return "; ".join(f"{_SHORT.get(column, column)} {value}" for column, value in row.reported.items())


_SHORT = {
    "auroc": "AUC",
    "auroc_folds": "AUC",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "slice_ssim": "SSIM",
    "lpips": "LPIPS",
    "fvd": "FVD",
    "fid": "FID",
    "ppv": "PPV",
    "npv": "NPV",
}
