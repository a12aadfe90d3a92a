"""The table that the papers' code reads: pairs of CT and radiograph by accession number, with PE."""

from pathlib import Path

from xray2ctpa_core.data.sources.files import RADIOGRAPH_SUFFIXES, VOLUME_SUFFIXES, named_file
from xray2ctpa_core.data.sources.study import Study, check_studies
from xray2ctpa_core.data.sources.table import read_table

CT, CXR, PE = "CT_Accession_number", "cxr_Accession_number", "PE"
PATIENT, SPLIT = "patient", "split"


def read_papers(
    root: Path, table: Path, radiographs: Path | None = None, check_files: bool = True
) -> list[Study]:
    """Pairs in the table's order.

    Args:
        root: folder of the CTs: <CT_Accession_number> as a folder of DICOM files, or with a volume's suffix.
        table: with CT_Accession_number, cxr_Accession_number and PE (0 or 1); ``patient`` and ``split`` are
            optional. Without ``patient``, each CT counts as a patient of its own.
        radiographs: folder of the radiographs, named in the same way; None for ``root``.
        check_files: whether missing files are an error.

    Raises:
        InputError: wrong columns, empty cells, PE that is not 0 or 1, a patient in two splits, missing or
            ambiguous files; names file and row.
    """
    studies = []
    for row in read_table(table, (CT, CXR, PE)):
        ct, where = row.text(CT), row.where
        radiograph = named_file(Path(radiographs or root), row.text(CXR), RADIOGRAPH_SUFFIXES, where)
        volume = named_file(Path(root), ct, VOLUME_SUFFIXES, where)
        patient = row.optional(PATIENT) or ct
        studies.append(Study(ct, patient, volume, radiograph, row.label(PE), row.optional(SPLIT), where))
    return check_studies(studies, check_files)
