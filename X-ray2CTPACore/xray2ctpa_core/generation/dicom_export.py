"""Export of a result folder as DICOM; checked before the run, and made once."""

from pathlib import Path

from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io import dicom_out, result_files
from xray2ctpa_core.io.dicom_file import read_dicom
from xray2ctpa_core.io.dicom_folder import choose_frontal_file
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.wording import unreliable


def check_place(target: Path, result: Path) -> None:
    """Raises OutputError if ``target`` is not empty although ``result`` does not exist yet."""
    with writing(target):
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if taken and not (result / result_files.CTPA).is_file():
        raise OutputError(
            f"Expected a new folder for DICOM, got {target}, which exists.",
            "Choose another place, or remove it first.",
        )


def export_result(result: Path, radiograph: Path | None, target: Path) -> None:
    """Writes a result folder as DICOM into the new folder ``target``, unless that was already done.

    Args:
        result: complete result folder.
        radiograph: the result's radiograph, a file or a folder; if it is DICOM, the series join its study.
            None makes a new patient.
        target: empty, or with the DICOM files of this result.

    Raises:
        InputError: no result; another radiograph than the result's; highdicom is missing.
        OutputError: the place is taken, full or cannot be written.
    """
    try:
        record = result_files.read_record(result)
        sha256, name = str(record["input"]["sha256"]), str(record["input"]["name"])
        reason = unreliable(record["pe"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected a result folder with {result_files.RECORD}, got {result}.",
            "Name a folder that `xray2ctpa generate` wrote.",
        ) from error
    if radiograph is not None:
        with reading(radiograph, "image"):
            file = choose_frontal_file(radiograph) if radiograph.is_dir() else radiograph
            if file_sha256(file) != sha256:
                raise InputError(
                    f"Expected the radiograph {name} of this result, got {file.name}, which is another file.",
                    "Name the file that the result was made from.",
                )
    check_place(target, result)
    export_dicom(result, radiograph, target, sha256, reason)


def export_dicom(
    result: Path, source: Path | None, target: Path, sha256: str, reason: str | None = None
) -> None:
    """As ``export_result``, for a radiograph ``source`` that is known to have this ``sha256``.

    ``reason`` is why PE score and Grad-CAM mean nothing (pe.unreliable of result.json).
    """
    digest = file_sha256(result / result_files.CTPA)
    if dicom_out.is_written(target, digest):
        return
    dicom_out.write_dicom_result(
        target,
        read_volume(result / result_files.CTPA),
        read_volume(result / result_files.GRADCAM),
        None if source is None else dicom_out.radiograph_header(source),
        sha256,
        digest,
        reason,
    )


def series_of(target: Path) -> dict[str, list[str]]:
    """SeriesInstanceUID -> names of its files in the folder ``target`` of ``export_result``."""
    series: dict[str, list[str]] = {}
    for path in sorted(target.iterdir()):
        series.setdefault(str(read_dicom(path, pixels=False).SeriesInstanceUID), []).append(path.name)
    return series
