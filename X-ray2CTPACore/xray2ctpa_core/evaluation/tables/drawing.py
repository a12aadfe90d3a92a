"""Figures of tables, ROC curves, calibration and embeddings, by matplotlib (extra ``training``)."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.config import replacing
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.tables.classifier import Decisions
from xray2ctpa_core.evaluation.tables.embedding import Embedding
from xray2ctpa_core.evaluation.tables.fill import FilledTable
from xray2ctpa_core.metrics.calibration import calibration_bins, expected_calibration_error
from xray2ctpa_core.metrics.classification import delong_interval, roc_band

#: Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
DPI = 150
#: Letters a line of a table's column, and of a note.
COLUMN_LETTERS, NOTE_LETTERS = 26, 170
#: Inches a letter and a line at the tables' font size.
LETTER, LINE = 0.071, 0.17
#: Inches an entry of a legend; letters a line of a title.
LEGEND, TITLE_LETTERS = 0.22, 70


def draw_table(table: FilledTable, path: Path) -> None:
    """Writes the table as PNG, cells wrapped, "not measured" in grey."""
    cells = [[_wrapped(text) for text in line] for line in [list(table.headings), *table.texts()]]
    widths = [max(_length(line[column]) for line in cells) + 2 for column in range(len(table.headings))]
    heights = [max(cell.count("\n") + 1 for cell in line) + 0.6 for line in cells]
    notes = "\n".join(textwrap.fill(note, NOTE_LETTERS) for note in table.notes)
    width = max(sum(widths) * LETTER, NOTE_LETTERS * LETTER * 0.75) + 0.4
    body, foot = sum(heights) * LINE, (notes.count("\n") + 2) * LINE
    figure, axes = _figure(width, body + foot + 0.7)
    axes.set_axis_off()
    figure.text(0.2 / width, 1 - 0.3 / (body + foot + 0.7), table.title, fontsize=11, fontweight="bold")
    box = [
        0.2 / width,
        (foot + 0.15) / (body + foot + 0.7),
        sum(widths) * LETTER / width,
        body / (body + foot + 0.7),
    ]
    axes.set_position(box)
    shares = [w / sum(widths) for w in widths]
    drawn = axes.table(cells, colWidths=shares, bbox=[0, 0, 1, 1], cellLoc="left", edges="horizontal")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_height(heights[row] / sum(heights))
        cell.set_edgecolor("#BBBBBB")
        cell.PAD = 0.02
        if row == 0:
            cell.set_text_props(fontweight="bold")
        elif cells[row][column] == "not measured":
            cell.set_text_props(color="#888888", fontstyle="italic")
    figure.text(0.2 / width, 0.1 / (body + foot + 0.7), notes, fontsize=7, color="#444444", va="bottom")
    _save(figure, path)


def draw_roc(arms: Mapping[str, Decisions], title: str, path: Path) -> None:
    """Writes the ROC curves of all test patients, the mean of their folds', each with a pointwise 95 % band
    and DeLong's interval."""
    figure, axes = _figure(6.6, 6.6 + LEGEND * (len(arms) + 1))
    for (name, tested), colour in zip(arms.items(), _colours(len(arms)), strict=True):
        rates, sensitivity, lower, upper = roc_band(tested.labels, tested.scores, folds=tested.folds)
        area = delong_interval(tested.labels, tested.scores, folds=tested.folds).text(2)
        label = f"{name}: AUROC {area}"
        axes.step(np.r_[0, rates], np.r_[0, sensitivity], where="post", color=colour, label=label)
        axes.fill_between(rates, lower, upper, step="post", color=colour, alpha=0.11, linewidth=0)
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", label="chance")
    axes.set(
        xlabel="1 - specificity (bands: pointwise 95 %)", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01)
    )
    axes.set_title(_wrapped(title, TITLE_LETTERS), fontsize=11)
    axes.grid(color="#EEEEEE")
    axes.set_aspect("equal", anchor="N")
    figure.legend(loc="lower center", fontsize=8, frameon=False)
    figure.subplots_adjust(left=0.11, right=0.97, top=0.91, bottom=0.08 + 0.03 * (len(arms) + 1))
    _save(figure, path)


def draw_calibration(arms: Mapping[str, Decisions], title: str, path: Path) -> None:
    """Writes a reliability diagram an arm: observed rates by Wilson over ten bins of the Platt-scaled
    probability, with the number of patients in each.

    Arms without probabilities (no validation patients) are left out; raises InputError where none is left.
    """
    shown = {name: t.probabilities for name, t in arms.items() if t.probabilities is not None}
    if not shown:
        raise InputError("A calibration plot needs an arm with validation patients, got none.")
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = _figure(3.9 * columns + 0.3, 4.1 * rows + 0.6, rows, columns)
    for axes in np.ravel(grid)[len(shown) :]:
        axes.set_axis_off()
    for (name, probabilities), axes in zip(shown.items(), np.ravel(grid), strict=False):
        bins = calibration_bins(probabilities, arms[name].labels)
        x, y = ([b.probability for b in bins], [b.rate.estimate for b in bins])
        reach = np.array([[b.rate.estimate - b.rate.lower, b.rate.upper - b.rate.estimate] for b in bins])
        axes.plot([0, 1], [0, 1], color="#888888", linestyle=":")
        axes.errorbar(
            x, y, yerr=np.clip(reach, 0, None).T, color=COLOURS[0], marker="o", markersize=4, capsize=2
        )
        for b in bins:
            axes.annotate(str(b.count), (b.probability, -0.035), ha="center", fontsize=6, color="#666666")
        error = expected_calibration_error(probabilities, arms[name].labels)
        axes.set_title(f"{_wrapped(name, 38)}\ncalibration error {error:.3f}", fontsize=9)
        axes.set(xlabel="probability of PE (patients above the axis)", ylabel="share with PE")
        axes.set(xlim=(0, 1), ylim=(-0.05, 1.05))
        axes.grid(color="#EEEEEE")
    figure.suptitle(_wrapped(title, 45 * columns), fontsize=11)
    figure.tight_layout()
    _save(figure, path)


def draw_embedding(embedding: Embedding, title: str, path: Path) -> None:
    """Writes both planes side by side: an arm a marker, a label a colour."""
    figure, axes_pair = _figure(11.5, 5.6, 1, 2)
    arms, labels = list(dict.fromkeys(embedding.arms)), list(dict.fromkeys(embedding.labels))
    groups = [(arm, label) for arm in arms for label in labels]
    for axes, plane, name in zip(
        axes_pair,
        (embedding.pca, embedding.tsne),
        (
            f"PCA, {100 * embedding.explained:.0f} % of the variance",
            f"t-SNE, perplexity {embedding.perplexity:.0f}",
        ),
        strict=True,
    ):
        for arm, label in groups:
            inside = (np.array(embedding.arms) == arm) & (np.array(embedding.labels) == label)
            if inside.any():
                axes.scatter(
                    plane[inside, 0],
                    plane[inside, 1],
                    s=22,
                    alpha=0.75,
                    linewidths=0.3,
                    edgecolors="white",
                    marker=MARKERS[arms.index(arm) % len(MARKERS)],
                    color=COLOURS[labels.index(label) % len(COLOURS)],
                    label=", ".join(part for part in (arm, label) if part),
                )
        axes.set(title=name, xticks=[], yticks=[])
    handles, names = axes_pair[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=min(4, len(names)), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=12)
    figure.subplots_adjust(
        bottom=0.08 + 0.05 * -(-len(names) // 4), top=0.87, left=0.03, right=0.97, wspace=0.06
    )
    _save(figure, path)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure of its own, with no window and no global state, and its axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"Figures need matplotlib: {error}.", "Install xray2ctpa-core[training].") from error
    figure = Figure(figsize=(width, height), dpi=DPI)
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, metadata={"Software": None})


def _colours(count: int) -> Sequence[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _wrapped(text: str, letters: int = COLUMN_LETTERS) -> str:
    """Lines of at most ``letters``; a p value and an interval stay on one line."""
    kept = text.replace("p < ", "p\u00a0<\u00a0").replace("p = ", "p\u00a0=\u00a0").replace(" [", "\u00a0[")
    return textwrap.fill(kept, letters) or " "


def _length(text: str) -> int:
    return max(len(line) for line in text.split("\n"))
