"""Downloads of a result: its files or DICOM series, in a zip file named after the radiograph."""

import importlib.util
import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xray2ctpa_core.generation.dicom_export import export_result
from xray2ctpa_core.generation.result_json import to_json
from xray2ctpa_core.io import result_files
from xray2ctpa_core.mrml.record import read_record
from xray2ctpa_core.viewer.shelf import Entry


def can_write_dicom() -> bool:
    """Whether highdicom, which is in the extra ``viewer``, is installed."""
    return importlib.util.find_spec("highdicom") is not None


def result_zip(entry: Entry) -> tuple[str, bytes]:
    """(name, content) of a zip file with the result folder, which ``xray2ctpa view`` opens, and the volume
    also under its name with the radiograph's."""
    record = read_record(entry.folder)
    radiograph = _radiograph_name(entry, record)
    folder = _folder_name(radiograph)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in (*result_files.ALWAYS, result_files.SPREAD, result_files.RADIOGRAPH_GRADCAM):
            if name != result_files.RECORD and (entry.folder / name).is_file():
                archive.write(entry.folder / name, f"{folder}/{name}")
        archive.write(entry.folder / result_files.CTPA, f"{folder}/{result_files.named_ctpa(radiograph)}")
        content = {**record, "input": {**record["input"], "name": radiograph}}
        archive.writestr(f"{folder}/{result_files.RECORD}", to_json(content))
    return f"{folder}.zip", packed.getvalue()


def dicom_zip(entry: Entry, scratch: Path) -> tuple[str, bytes]:
    """(name, content) of a zip file with the volume as a CT series and Grad-CAM as a parametric map, in the
    radiograph's study.

    Args:
        entry: the result.
        scratch: private folder for temporary files.

    Raises:
        InputError, OutputError: as ``export_result``.
    """
    folder = f"{_folder_name(_radiograph_name(entry, read_record(entry.folder)))}-dicom"
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory(dir=scratch) as place, zipfile.ZipFile(packed, "w") as archive:
        target = Path(place) / "dicom"
        export_result(entry.folder, entry.radiograph, target)
        for file in sorted(target.iterdir()):
            archive.write(file, f"{folder}/{file.name}", zipfile.ZIP_DEFLATED)
    return f"{folder}.zip", packed.getvalue()


def attachment(name: str) -> str:
    """The header Content-Disposition for a file of this name, with any letters (RFC 6266)."""
    plain = "".join(letter if " " < letter < "\x7f" and letter not in '"\\' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _radiograph_name(entry: Entry, record: Mapping[str, Any]) -> str:
    """The original name of the radiograph's file; uploads are stored under a neutral one."""
    return entry.name if entry.radiograph is not None else str(record["input"]["name"])


def _folder_name(radiograph: str) -> str:
    return result_files.named_ctpa(radiograph).removesuffix(".nii.gz")
