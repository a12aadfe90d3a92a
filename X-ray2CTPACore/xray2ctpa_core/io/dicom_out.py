"""A result as DICOM: the volume as a CT series in the radiograph's study, Grad-CAM as a parametric map of it.

Every instance says that it is derived, synthetic and no patient's scan; over every slice lies the word
SYNTHETIC as an overlay. By pydicom and highdicom (extra ``dicom``).
"""

import datetime
import importlib.util
import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import PersonName

from xray2ctpa_core import __version__
from xray2ctpa_core.constants import CTPA_DISPLAY_WINDOW, NOTICE, SYNTHETIC
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_file import is_dicom, read_dicom
from xray2ctpa_core.io.dicom_folder import choose_frontal_file
from xray2ctpa_core.io.dicom_header import text
from xray2ctpa_core.io.dicom_overlay import add_synthetic_overlay
from xray2ctpa_core.io.result_folder import ResultFolder, writing
from xray2ctpa_core.volume import Volume

GRADCAM_FILE = "gradcam.dcm"
_IS_PYDICOM_2 = int(pydicom.__version__.split(".")[0]) < 3  # which Slicer 5.10 brings
#: Writes preamble, prefix and a whole file meta group.
_COMPLETE: dict[str, Any] = {"write_like_original": False} if _IS_PYDICOM_2 else {"enforce_file_format": True}
_MANUFACTURER, _BODY_PART = "X-ray2CTPA", "CHEST"
_SERIES_DESCRIPTION = f"{SYNTHETIC} CTPA, generated from one radiograph"
_GRADCAM_DESCRIPTION = f"{SYNTHETIC} Grad-CAM of the PE classifier"
#: Of the patient and the study, copied from the radiograph; empty where it says nothing (type 2).
_OF_THE_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
#: What of these must have a form; where the radiograph's has another, it is left empty.
_FORMS = {
    "PatientBirthDate": r"\d{8}", "StudyDate": r"\d{8}",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "PatientSex": "[MFO]", "StudyInstanceUID": r"[0-9.]{1,64}",
}  # fmt: skip
_DATES = ("PatientBirthDate", "StudyDate")
_OF_THE_STUDY_IF_THERE = ("IssuerOfPatientID", "StudyDescription")
_UNICODE = "ISO_IR 192"
#: The element Synthetic Data, which pydicom 2 does not know by name.
_SYNTHETIC_DATA = 0x0008001C
#: Numbers of the series in the study: far above those of scanners.
_SERIES_NUMBER, _GRADCAM_SERIES_NUMBER = 9001, 9002


def require_highdicom() -> None:
    """Raises InputError, naming the extra, where the package highdicom is missing."""
    if importlib.util.find_spec("highdicom") is None:
        raise InputError(
            "DICOM out needs the package highdicom, which the base installation does not bring.",
            "Install the extra dicom: in a checkout, pip install './X-ray2CTPACore[dicom]'.",
        )


def radiograph_header(source: Path) -> Dataset | None:
    """The header of the radiograph in the file or folder ``source``, None where it is no DICOM."""
    path = choose_frontal_file(source) if source.is_dir() else source
    return read_dicom(path, pixels=False) if is_dicom(path) else None


def write_dicom_result(
    target: Path,
    ctpa: Volume,
    gradcam: Volume,
    radiograph: Dataset | None,
    sha256: str,
    digest: str,
    unreliable: str | None = None,
) -> None:
    """Writes a CT series, ``ctpa-0001.dcm`` and on, and GRADCAM_FILE into the new folder ``target``.

    Args:
        target: appears complete or not at all; must not exist, or be empty.
        ctpa: (D, H, W) int16 HU with its place in LPS.
        gradcam: 0..1, on the grid of ``ctpa``.
        radiograph: header whose patient and study the series joins; None makes a patient of its own.
        sha256: of the radiograph.
        digest: of the volume, by which ``is_written`` knows it again.
        unreliable: why the PE classifier's evidence means nothing here, as a sentence for the Grad-CAM's
            comments; None if none is known.

    Raises:
        InputError: highdicom is missing.
        OutputError: the place is taken, full or cannot be written.
    """
    require_highdicom()
    with (
        warnings.catch_warnings(),
        ResultFolder(target, 4 * ctpa.array.size + 6 * gradcam.array.size + (8 << 20)) as folder,
    ):
        warnings.simplefilter("ignore")  # about values of the radiograph's header that are passed on
        slices = _series(ctpa, _study(radiograph, sha256), radiograph)
        parametric_map = _parametric_map(slices, gradcam, unreliable)
        with writing(target):
            for number, dataset in enumerate(slices, 1):
                dataset.ImageComments = f"{NOTICE} Volume {digest}."
                pydicom.dcmwrite(folder.path / _slice_file(number), dataset, **_COMPLETE)
            parametric_map.save_as(folder.path / GRADCAM_FILE)
        folder.publish()


def is_written(target: Path, digest: str) -> bool:
    """Whether ``target`` holds the DICOM of the volume with this ``digest``: whole or not at all."""
    first = target / _slice_file(1)
    return first.is_file() and digest in text(read_dicom(first, pixels=False), "ImageComments").lower()


def _slice_file(number: int) -> str:
    return f"ctpa-{number:04d}.dcm"


def _study(radiograph: Dataset | None, sha256: str) -> Dataset:
    """Patient and study: the radiograph's, or new ones. Texts are kept in Unicode, whatever the radiograph's
    character set is."""
    study = Dataset()
    for keyword in (*_OF_THE_STUDY, *_OF_THE_STUDY_IF_THERE):
        value = _plain(radiograph.get(keyword)) if radiograph is not None else None
        if keyword in _OF_THE_STUDY or value:
            setattr(study, keyword, value if value is not None and _has_form(keyword, str(value)) else "")
    if not all(str(element.value).isascii() for element in study):
        study.SpecificCharacterSet = _UNICODE
    if radiograph is None:
        study.PatientName = f"{SYNTHETIC}^OF A RADIOGRAPH"
        study.PatientID = f"{SYNTHETIC}-{sha256[:16]}"
        study.StudyDate, study.StudyTime = _date_and_time()
        study.StudyID = "1"
    study.StudyInstanceUID = study.StudyInstanceUID or generate_uid()
    return study


def _plain(value: Any) -> Any:
    """A person's name or text as decoded characters without control characters, other values as they are."""
    if isinstance(value, str | PersonName):
        return "".join(c if c.isprintable() else " " for c in str(value))
    return value


def _has_form(keyword: str, value: str) -> bool:
    """Whether ``value`` is what an element may hold."""
    if re.fullmatch(_FORMS.get(keyword, r"(?s:.*)"), value) is None:
        return False
    try:
        return keyword not in _DATES or bool(datetime.datetime.strptime(value, "%Y%m%d"))
    except ValueError:
        return False


def _series(ctpa: Volume, study: Dataset, radiograph: Dataset | None) -> list[FileDataset]:
    """One data set a slice, from the first k on."""
    now = _date_and_time()
    series, frame_of_reference = generate_uid(), generate_uid()
    return [
        _slice(ctpa, k, study, radiograph, series, frame_of_reference, now) for k in range(len(ctpa.array))
    ]


def _slice(
    ctpa: Volume,
    k: int,
    study: Dataset,
    radiograph: Dataset | None,
    series: str,
    frame_of_reference: str,
    now: tuple[str, str],
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.update(study)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.add_new(_SYNTHETIC_DATA, "CS", "YES")
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "CT", series, _SERIES_NUMBER
    dataset.SeriesDescription = _SERIES_DESCRIPTION
    dataset.PatientPosition, dataset.BodyPartExamined = "HFS", _BODY_PART
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame_of_reference, ""
    dataset.Manufacturer = dataset.ManufacturerModelName = _MANUFACTURER
    dataset.SoftwareVersions = __version__
    dataset.DeviceSerialNumber = "0"
    dataset.InstanceNumber, dataset.AcquisitionNumber = k + 1, None
    dataset.ContentDate, dataset.ContentTime = now
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.DerivationDescription = NOTICE
    dataset.BurnedInAnnotation = "NO"  # nothing that identifies a patient; the word is an overlay
    dataset.LossyImageCompression = "00"
    if radiograph is not None and radiograph.get("SOPInstanceUID") and radiograph.get("SOPClassUID"):
        dataset.SourceImageSequence = [_reference(radiograph)]
    _set_pixels(dataset, ctpa, k)
    return dataset


def _reference(radiograph: Dataset) -> Dataset:
    """The radiograph, as what the image was made from (DCM 121322)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    reference = Dataset()
    reference.ReferencedSOPClassUID = radiograph.SOPClassUID
    reference.ReferencedSOPInstanceUID = radiograph.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = [purpose]
    return reference


def _set_pixels(dataset: Dataset, ctpa: Volume, k: int) -> None:
    """Image plane, image pixel and CT image modules of slice ``k``."""
    i_mm, j_mm, k_mm = ctpa.spacing
    dataset.PixelSpacing = [_ds(j_mm), _ds(i_mm)]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _ds(k_mm)
    dataset.ImageOrientationPatient = [_ds(v) for v in ctpa.direction[:, :2].T.ravel()]
    position = ctpa.affine @ [0.0, 0.0, float(k), 1.0]
    dataset.ImagePositionPatient = [_ds(v) for v in position[:3]]
    dataset.SliceLocation = _ds(position[2])
    dataset.KVP = None
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = ctpa.array.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
    dataset.WindowCenter, dataset.WindowWidth = (_ds(v) for v in CTPA_DISPLAY_WINDOW)
    dataset.PixelData = np.ascontiguousarray(ctpa.array[k], dtype="<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    add_synthetic_overlay(dataset, ctpa.array.shape[1:])


def _parametric_map(slices: list[FileDataset], gradcam: Volume, unreliable: str | None) -> pydicom.Dataset:
    """Grad-CAM, 0..1, on the slices' grid."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    mapping = hd.pm.RealWorldValueMapping(
        lut_label="GRADCAM",
        lut_explanation="Grad-CAM, 0 to 1",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
    )
    made = hd.pm.ParametricMap(
        slices,
        np.ascontiguousarray(gradcam.array, dtype=np.float32),
        series_instance_uid=generate_uid(),
        series_number=_GRADCAM_SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=_MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        **_window_of_map(),
        content_label="GRADCAM",
        content_description=_GRADCAM_DESCRIPTION,
    )
    made.add_new(_SYNTHETIC_DATA, "CS", "YES")
    made.SeriesDescription = _GRADCAM_DESCRIPTION
    made.BodyPartExamined = _BODY_PART
    made.DerivationDescription = NOTICE
    made.ImageComments = " ".join(filter(None, (NOTICE, unreliable)))
    return made


def _window_of_map() -> dict[str, Any]:
    """The whole range 0 to 1 as the window of a parametric map, in the words of this highdicom."""
    import highdicom as hd

    if "window_center" in inspect.signature(hd.pm.ParametricMap).parameters:  # up to 0.23, for pydicom 2
        return {"window_center": 0.5, "window_width": 1.0}
    return {"voi_lut_transformations": [hd.VOILUTTransformation(window_center=0.5, window_width=1.0)]}


def _date_and_time() -> tuple[str, str]:
    now = datetime.datetime.now()
    return now.strftime("%Y%m%d"), now.strftime("%H%M%S")


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return str(pydicom.valuerep.DSfloat(float(value), auto_format=True))
