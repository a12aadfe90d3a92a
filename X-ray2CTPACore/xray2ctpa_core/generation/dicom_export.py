"""A result folder as DICOM: refused before the run where it has no place, made once."""

from pathlib import Path

from xray2ctpa_core.errors import OutputError
from xray2ctpa_core.io import dicom_out, result_files
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.io.volumes import read_volume


def check_place(target: Path, result: Path) -> None:
    """Raises OutputError where ``target`` holds something although ``result`` has not been made yet."""
    with writing(target):
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if taken and not (result / result_files.CTPA).is_file():
        raise OutputError(
            f"Expected a new folder for DICOM, got {target}, which exists.",
            "Choose another place, or remove it first.",
        )


def export_dicom(result: Path, source: Path, target: Path, sha256: str) -> None:
    """Writes the volumes of ``result`` into the new folder ``target``, unless they are there.

    Args:
        result: complete result folder.
        source: the radiograph it was made from, a file or a folder.
        target: holds nothing, or the DICOM of this very result.
        sha256: of the radiograph.
    """
    digest = file_sha256(result / result_files.CTPA)
    if dicom_out.is_written(target, digest):
        return
    dicom_out.write_dicom_result(
        target,
        read_volume(result / result_files.CTPA),
        read_volume(result / result_files.GRADCAM),
        dicom_out.radiograph_header(source),
        sha256,
        digest,
    )
