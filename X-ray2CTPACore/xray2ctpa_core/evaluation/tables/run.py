"""From folders of evaluated arms to files: tables as CSV, Markdown and PNG, curves, embeddings, plates."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.tables.arms import FEATURES_FILE, Arm
from xray2ctpa_core.evaluation.tables.classifier import Decisions
from xray2ctpa_core.evaluation.tables.definition import TableDefinition
from xray2ctpa_core.evaluation.tables.drawing import draw_calibration, draw_embedding, draw_roc, draw_table
from xray2ctpa_core.evaluation.tables.embedding import embed, label_word, read_features
from xray2ctpa_core.evaluation.tables.fill import FilledTable, MeasuredArm, fill_table, measure_arm
from xray2ctpa_core.evaluation.tables.generator import VolumeBench, measure_pair
from xray2ctpa_core.io.gradcam_plate import render_gradcam_plate
from xray2ctpa_core.io.volumes import read_axial_volume

#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]
#: Vectors that an embedding needs.
LEAST_POINTS = 5
#: Of a row: what the clips' network sees in a volume, one vector.
CLIP_FEATURES = "features_fvd"


def measure_arms(
    arms: Sequence[Arm], bench: VolumeBench, progress: Progress | None = None, volumes: int = 0
) -> dict[str, MeasuredArm]:
    """Every arm's numbers, by name.

    Args:
        arms: of ``find_arms``.
        bench: what volumes are measured with; its store keeps what is done.
        progress: called with ("volumes", done, of).
        volumes: pairs of each arm, from the first; 0 for all.
    """
    chosen = {arm.name: arm.pairs[: volumes or None] for arm in arms}
    of = sum(len(pairs) for pairs in chosen.values())
    done, measured = 0, {}
    for arm in arms:
        pairs = []
        for pair in chosen[arm.name]:
            pairs.append(measure_pair(pair, bench))
            done += 1
            if progress is not None:
                progress("volumes", done, of)
        measured[arm.name] = measure_arm(arm, pairs)
    return measured


def write_tables(
    definitions: Sequence[TableDefinition],
    measured: Mapping[str, MeasuredArm],
    titles: Mapping[str, str],
    out: Path,
    image_note: str = "",
) -> list[FilledTable]:
    """Writes table-N.csv, .md and .png, tables.md with all, and where they fit roc-N and calibration-N.png.

    Args:
        definitions: of ``read_definitions``.
        measured: arms by name.
        titles: headings of fvd and fid.
        out: folder.
        image_note: a sentence below tables with numbers of volumes.
    """
    filled = [fill_table(definition, measured, titles, image_note) for definition in definitions]
    for table in filled:
        stem = f"table-{table.definition.number}"
        write_text_atomically(out / f"{stem}.csv", table.csv())
        write_text_atomically(out / f"{stem}.md", table.markdown())
        draw_table(table, out / f"{stem}.png")
        _write_curves(table, measured, out)
    write_text_atomically(out / "tables.md", "\n".join(table.markdown() for table in filled))
    return filled


def write_embeddings(measured: Mapping[str, MeasuredArm], out: Path, seed: int = 0) -> None:
    """Writes embedding-features.png of the arms' features.npz and embedding-volumes.png of their volumes.

    Each only where there are at least LEAST_POINTS vectors. Of volumes the clip network's features are taken,
    real volumes as an arm of their own; labels are those of any arm's predictions.

    Raises:
        InputError: a damaged features.npz, or arms whose vectors differ in length; it names them.
    """
    found = {}
    for name, arm in measured.items():
        path = arm.arm.file(FEATURES_FILE)
        if path is not None:
            found[name] = read_features(path)
    if len({features.vectors.shape[1] for features in found.values()}) > 1:
        sizes = ", ".join(f"{name} {f.vectors.shape[1]}" for name, f in found.items())
        raise InputError(f"Expected {FEATURES_FILE} of one length in all arms, got {sizes}.")
    rows = [
        (vector, name, label)
        for name, features in found.items()
        for vector, label in zip(features.vectors, features.labels, strict=True)
    ]
    _write_embedding(rows, f"Features of the arms ({FEATURES_FILE})", out / "embedding-features.png", seed)
    _write_embedding(
        _volume_rows(measured),
        "Volumes, in the features of the clips' Fréchet distance",
        out / "embedding-volumes.png",
        seed,
    )


def write_plates(measured: Mapping[str, MeasuredArm], count: int, out: Path) -> None:
    """Writes plates/ARM-PATIENT.png of the first ``count`` patients with a Grad-CAM map of each arm.

    Raises:
        InputError: a map that is not axial, of another grid or not within 0..1; it names file and row.
    """
    for name, arm in measured.items():
        mapped = [pair for pair in arm.arm.pairs if pair.gradcam is not None][:count]
        for pair in mapped:
            assert pair.gradcam is not None
            ctpa, heat = read_axial_volume(pair.generated), read_axial_volume(pair.gradcam)
            if heat.array.shape != ctpa.array.shape or not (
                np.isfinite(heat.array).all() and heat.array.min() >= 0 and heat.array.max() <= 1
            ):
                raise InputError(
                    f"Expected a map of 0 to 1 on the volume's grid {ctpa.array.shape}, got shape "
                    f"{heat.array.shape} in {pair.gradcam.name}, {pair.where}."
                )
            picture = render_gradcam_plate(ctpa, heat, f"{name}, patient {pair.patient}")
            path = out / "plates" / f"{_file_name(name)}-{_file_name(pair.patient)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def _write_curves(table: FilledTable, measured: Mapping[str, MeasuredArm], out: Path) -> None:
    tested: dict[str, Decisions] = {}
    if "auroc" in table.definition.metrics:
        for row in table.definition.rows:
            arm = measured.get(row.arm)
            if arm is not None and arm.tested is not None and "auroc" in arm.numbers:
                tested[row.label] = arm.tested
    number = table.definition.number
    if tested:
        draw_roc(tested, table.title, out / f"roc-{number}.png")
    if any(t.probabilities is not None for t in tested.values()):
        draw_calibration(tested, table.title, out / f"calibration-{number}.png")


def _volume_rows(measured: Mapping[str, MeasuredArm]) -> list[tuple[np.ndarray, str, str]]:
    """(vector, arm, label) of the clip features of real and generated volumes; each real volume once."""
    labels = {
        patient: label_word(int(label))
        for arm in measured.values()
        if arm.tested is not None
        for patient, label in zip(arm.tested.patients, arm.tested.labels, strict=True)
    }
    real: dict[tuple[str, str], tuple[np.ndarray, str, str]] = {}
    generated = []
    for name, arm in measured.items():
        for pair in arm.pairs:
            label = labels.get(pair.patient, "")
            truth, made = (np.array(row[CLIP_FEATURES][0]) for row in (pair.truth, pair.row))
            real[(arm.arm.description.dataset, pair.patient)] = (truth, "real", label)
            generated.append((made, name, label))
    return [*real.values(), *generated]


def _write_embedding(rows: Sequence[tuple[np.ndarray, str, str]], title: str, path: Path, seed: int) -> None:
    if len(rows) < LEAST_POINTS:
        return
    vectors, arms, labels = zip(*rows, strict=True)
    draw_embedding(embed(np.stack(vectors), arms, labels, seed), title, path)


def _file_name(text: str) -> str:
    """Letters, digits, dots and dashes of a name; the rest becomes dashes."""
    return "".join(c if c.isalnum() or c in ".-_" else "-" for c in text)
