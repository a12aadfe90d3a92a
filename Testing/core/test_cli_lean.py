"""What starts late starts when it is asked for, and what is left out counts as not installed."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xray2ctpa_core.cli.lean import LATE, UNUSED, leave_out, put_off


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose module ``heavy`` says in the file "read" that it was imported."""
    folder = tmp_path / "library_of_this_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    read = f"import pathlib\npathlib.Path({str(tmp_path / 'read')!r}).touch()\n"
    (folder / "heavy.py").write_text(f"{read}ANSWER = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_a_module_that_is_put_off_is_imported_by_the_first_question(library: str, tmp_path: Path) -> None:
    name = f"{library}.heavy"
    put_off([name])
    module = importlib.import_module(name)
    assert not hasattr(module, "__file__")  # torch asks all modules for it
    assert importlib.util.find_spec(name) is not None
    assert not (tmp_path / "read").exists()
    assert module.ANSWER == 42
    assert (tmp_path / "read").exists()
    assert sys.modules[name].__file__ is not None
    assert module.ANSWER == 42
    with pytest.raises(AttributeError, match="OTHER"):
        _ = module.OTHER


def test_a_module_that_is_imported_already_stays_as_it_is(library: str) -> None:
    module = importlib.import_module(f"{library}.heavy")
    put_off([f"{library}.heavy"])
    leave_out([f"{library}.heavy"])
    assert sys.modules[f"{library}.heavy"] is module


def test_a_package_that_is_left_out_cannot_be_imported(library: str) -> None:
    leave_out([f"{library}.heavy"])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{library}.heavy")


@pytest.mark.slow
def test_the_pipeline_needs_nothing_of_what_is_left_out_or_put_off() -> None:
    code = (
        "import sys; from xray2ctpa_core.cli.lean import *; leave_out(); put_off();"
        "from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline as P;"
        "P.from_pretrained('virtual-thorax');"
        f"assert not any(sys.modules[name] for name in {UNUSED});"
        f"print([type(sys.modules[name]).__name__ for name in {LATE}])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "['_Late']"
