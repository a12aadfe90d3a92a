"""What starts late starts when it is asked for, and what is left out counts as not installed."""

import importlib
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xray2ctpa_core.cli.lean import LATE, UNUSED, leave_out, put_off
from xray2ctpa_core.generation.samples import SAMPLE_CXR


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
    put_off({name: {}})
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


def test_what_is_known_of_a_package_and_the_modules_inside_it_do_not_import_it(
    library: str, tmp_path: Path
) -> None:
    folder = tmp_path / library / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .inner import NUMBER\nKNOWN = LIST = 'real'\n")
    (folder / "inner.py").write_text("NUMBER = 7\n")
    name = f"{library}.package"
    put_off({name: {"KNOWN": "in advance"}})
    inner = importlib.import_module(f"{name}.inner")
    package = importlib.import_module(name)
    assert inner.NUMBER == 7
    assert package.KNOWN == "in advance"
    assert package.LIST == "real"
    assert sys.modules[name].KNOWN == "real"
    assert sys.modules[f"{name}.inner"] is inner


def test_a_module_that_is_imported_already_stays_as_it_is(library: str) -> None:
    module = importlib.import_module(f"{library}.heavy")
    put_off({f"{library}.heavy": {}})
    leave_out([f"{library}.heavy"])
    assert sys.modules[f"{library}.heavy"] is module


def test_a_package_that_is_left_out_cannot_be_imported(library: str) -> None:
    leave_out([f"{library}.heavy"])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{library}.heavy")


def test_a_library_that_is_asked_for_more_is_imported_as_a_whole() -> None:
    """Also where a part of it is known by a stand-in that another module has taken."""
    code = (
        "from xray2ctpa_core.cli.lean import *; leave_out(); put_off();"
        "from monai.networks.nets.densenet import DenseNet;"
        "from monai.visualize.class_activation_maps import default_normalizer;"
        "import monai, torch, scipy.integrate, sys;"
        "print(type(sys.modules['monai.data']).__name__, monai.__version__[0].isdigit());"
        "print(float(default_normalizer(torch.tensor([[[[0.0, 4.0]]]])).max()));"
        "print(type(sys.modules['monai.data']).__name__, monai.losses.DiceLoss.__name__);"
        "print(round(scipy.integrate.quad(lambda x: x, 0, 2)[0], 6))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["_Late True", "1.0", "module DiceLoss", "2.0"]


def test_a_placeholder_gives_way_while_another_thread_imports(library: str) -> None:
    """As where the networks are loaded in one thread and the radiograph is read in another."""
    name, ended, interval = f"{library}.heavy", threading.Event(), sys.getswitchinterval()

    def importing() -> None:
        while not ended.is_set():
            sys.modules[f"{library}.other"] = sys
            del sys.modules[f"{library}.other"]

    other = threading.Thread(target=importing)
    sys.setswitchinterval(1e-6)
    other.start()
    try:
        for _ in range(100):
            sys.modules.pop(name, None)
            put_off({name: {}})
            assert sys.modules[name].ANSWER == 42
    finally:
        ended.set()
        other.join()
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("encoder", "architecture", "package"),
    [
        ("biomedclip", {"model": "vit_tiny_patch16_224"}, "open_clip"),
        ("dinov2", {"num_hidden_layers": 1, "num_attention_heads": 2}, "transformers"),
    ],
)
def test_an_encoder_that_needs_what_is_left_out_gets_it(
    encoder: str, architecture: dict[str, object], package: str
) -> None:
    """Bundles of published checkpoints are generated from by lean commands, too."""
    pytest.importorskip(package)
    code = (
        "import torch; from xray2ctpa_core.cli.lean import start_lean; start_lean();"
        "from xray2ctpa_core.models.encoders.published import PublishedEncoder;"
        f"made = PublishedEncoder({encoder!r}, {architecture!r}, 32, 3, 224).eval();"
        "print(tuple(made(torch.zeros(1, 1, 64, 64)).shape))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "(1, 32)"


def test_the_metadata_of_all_packages_are_read_by_the_first_who_asks() -> None:
    code = (
        "import importlib.metadata as m; truth = m.packages_distributions();"
        "m.packages_distributions = lambda: print('read') or truth;"
        "from xray2ctpa_core.cli.lean import put_off_distributions; put_off_distributions();"
        "known = m.packages_distributions(); print('not yet');"
        "print('torch' in known, 'nowhere' in known, dict(known) == truth)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["not yet", "read", "True False True"]


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE 10000"), ("ACTIVE", "ACTIVE None")])
def test_threads_of_a_command_sleep_while_they_wait_for_long_unless_the_user_wants_otherwise(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    code = (
        "import os, sys; from xray2ctpa_core.cli.main import main;"
        "sys.argv = ['xray2ctpa', 'info', 'virtual-thorax']; main();"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == expected


def test_a_quick_end_loses_nothing_that_was_said_or_is_to_be_done_at_exit(tmp_path: Path) -> None:
    code = (
        "import atexit, pathlib, sys; from xray2ctpa_core.cli.lean import end;"
        f"atexit.register(pathlib.Path({str(tmp_path / 'done')!r}).touch);"
        "print('said'); print('also said', file=sys.stderr); end(4)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (4, "said\n", "also said\n")
    assert (tmp_path / "done").exists()


@pytest.mark.slow
def test_generating_needs_nothing_of_what_is_left_out_or_put_off(tmp_path: Path) -> None:
    code = (
        "import sys; from xray2ctpa_core.cli.lean import *; leave_out(); put_off();"
        "from xray2ctpa_core.cli.main import main;"
        f"assert main(['generate', {str(SAMPLE_CXR)!r}, '--out', {str(tmp_path / 'result')!r}]) == 0;"
        f"assert not any(sys.modules[name] for name in {UNUSED});"
        f"print([type(sys.modules[name]).__name__ for name in {tuple(LATE)}])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == str(["_Late"] * len(LATE))
