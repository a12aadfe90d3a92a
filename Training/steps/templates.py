"""Packs chest CTs as the people from whom virtual patients are drawn: 2 mm, organs, unenhanced copy.

Subfolders of the CTs' folder are not read: they can hold CTs whose licence forbids publishing weights.
sheet.png shows all people, for a visual check.
"""

from pathlib import Path

from PIL import Image

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.names import VOLUME_SUFFIXES
from xray2ctpa_core.simulation.people.person import SUFFIX, people_in, save_person
from xray2ctpa_core.simulation.people.prepare import REFERENCE, prepared_person, reference_person
from xray2ctpa_core.simulation.people.sheet import people_sheet
from xray2ctpa_core.training.settings.people import TemplatesSettings


def run(config: TemplatesSettings, out: Path) -> None:
    """Writes ``out``/NAME.person.xz and ``out``/sheet.png; existing people are kept."""
    out.mkdir(parents=True, exist_ok=True)
    files = ct_files(Path(config.templates)) if config.templates else []
    bar = Bar("people")
    if not (out / (REFERENCE + SUFFIX)).exists():
        save_person(reference_person(), out / (REFERENCE + SUFFIX))
    bar(1, len(files) + 1)
    for number, file in enumerate(files):
        packed = out / (file.name.split(".")[0] + SUFFIX)
        if not packed.exists():
            save_person(prepared_person(file), packed)
        bar(number + 2, len(files) + 1)
    Image.fromarray(people_sheet(people_in(out))).save(out / "sheet.png")


def ct_files(folder: Path) -> list[Path]:
    """CTs directly in ``folder``. Raises InputError where there is none."""
    files = sorted(file for file in folder.glob("*") if file.name.endswith(VOLUME_SUFFIXES))
    if not files:
        raise InputError(f"Expected CTs ({', '.join(VOLUME_SUFFIXES)}) in {folder}, found none.")
    return files
