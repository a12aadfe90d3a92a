"""The one encode step: volumes to latents, a file for each, an index, and statistics of the training
cases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core.config import write_json
from xray2ctpa_core.data.cases import CASE_FILE, case_folder, save_array, write_cases
from xray2ctpa_core.data.latent_cases import LatentCase, radiographs_of, read_latents, write_latent_cases
from xray2ctpa_core.data.latents import STATISTICS_FILE, moments_of
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.volumes import TRAINING, StudyVolumes
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.volumes import read_volume

#: Number of studies without a radiograph that a message names.
_NAMED = 5
#: (D, H, W) float32 HU -> latents (C, d, h, w).
Encode = Callable[[np.ndarray], np.ndarray]


def encode_studies(
    out: Path,
    entries: Sequence[StudyVolumes],
    encode: Encode,
    settings: Mapping[str, Any],
    radiographs: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[LatentCase], list[str]]:
    """Writes the latents of every volume, unless they exist, and an index of the successful ones.

    Args:
        out: folder; latents of other settings there are refused.
        entries: the studies.
        encode: the codec.
        settings: JSON-ready, with everything that changes the latents.
        radiographs: folder of the step radiographs; studies without one are left out. None uses none.
        progress: called with (done, total) after each study.

    Returns:
        The index's volumes, and lines of text about finished, failed and omitted studies.

    Raises:
        InputError: no study is left; or as in `write_cases`.
    """
    entries, paired, lines = _with_radiographs(entries, radiographs)
    volumes = {entry.study.id: entry.volumes for entry in entries}

    def write(study: Study, folder: Path) -> dict[str, Any]:
        for number, file in enumerate(volumes[study.id]):
            latents = encode(read_volume(file).array.astype(np.float32))
            save_array(latents.astype(np.float16), folder / _latents_file(number))
        return {"volumes": [str(file) for file in volumes[study.id]]}

    # workers=0: in this process, where the codec is.
    summary = write_cases(out, [e.study for e in entries], write, settings, workers=0, progress=progress)
    cases = _indexed(out, entries, paired)
    write_latent_cases(out, cases)
    return cases, [*summary.summary_lines(), *lines]


def write_statistics(
    out: Path, cases: Sequence[LatentCase], gains: Callable[[np.ndarray, list[float]], list[float]]
) -> None:
    """Writes mean and standard deviation of each channel over the training studies, read one at a time.

    Args:
        out: folder.
        cases: of the index; all are used where none is a training case.
        gains: maps one volume's latents and the deviations to the effect of each channel on decoded slices.
    """
    teachers = teaching(cases)
    mean, std = moments_of(read_latents(case) for case in teachers)
    gain = gains(read_latents(teachers[0]), std)
    write_json(out / STATISTICS_FILE, {"mean": mean, "std": std, "gain": gain})


def teaching(cases: Sequence[LatentCase]) -> list[LatentCase]:
    """The cases of the training split; all cases where there is no such split."""
    return [case for case in cases if case.split.lower() in TRAINING] or list(cases)


def volume_cases(entries: Sequence[StudyVolumes], radiographs: Path) -> tuple[list[LatentCase], list[str]]:
    """The volumes of studies as cases without latents, for networks that read volumes themselves, and lines
    that name the studies without a radiograph; raises InputError where none has one."""
    entries, paired, lines = _with_radiographs(entries, radiographs)
    return _cases(entries, paired), lines


def _with_radiographs(
    entries: Sequence[StudyVolumes], folder: Path | None
) -> tuple[list[StudyVolumes], dict[str, Path], list[str]]:
    """The studies with a radiograph in ``folder``, their radiographs by id, and lines that name the others;
    without a folder all studies."""
    if folder is None:
        return list(entries), {}, []
    kept, radiographs, without, missing = [], {}, [], InputError("")
    for entry in entries:
        study = entry.study
        try:
            (radiographs[study.id],) = radiographs_of([(study.id, study.patient, study.where)], folder)
        except InputError as error:
            missing = error
            without.append(study.id)
        else:
            kept.append(entry)
    if not kept:
        raise missing
    names = ", ".join(without[:_NAMED]) + (" and others" if len(without) > _NAMED else "")
    said = [f"{len(without)} studies have no radiograph in {folder} and are left out: {names}."]
    return kept, radiographs, said if without else []


def _indexed(out: Path, entries: Sequence[StudyVolumes], radiographs: Mapping[str, Path]) -> list[LatentCase]:
    done = [entry for entry in entries if (case_folder(out, entry.study.id) / CASE_FILE).is_file()]
    files = [
        case_folder(out, entry.study.id) / _latents_file(number)
        for entry in done
        for number in range(len(entry.volumes))
    ]
    return [replace(case, latents=file) for case, file in zip(_cases(done, radiographs), files, strict=True)]


def _cases(entries: Sequence[StudyVolumes], radiographs: Mapping[str, Path]) -> list[LatentCase]:
    volumes = [(entry.study, file) for entry in entries for file in entry.volumes]
    return [
        LatentCase(
            row,
            file,
            study.id,
            study.patient,
            study.label,
            study.split or "",
            study.where,
            radiograph=radiographs.get(study.id),
            map=study.map,
            findings=study.findings,
        )
        for row, (study, file) in enumerate(volumes)
    ]


def _latents_file(number: int) -> str:
    return f"latents-{number}.npy"
