"""`xray2ctpa bench` prints what it measured, and writes it with its numbers."""

import json
from pathlib import Path

import pytest

from xray2ctpa_core.benchmark import end_to_end, paper_scale
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.generation.samples import SAMPLE_CXR

SPREAD = {"median": 2.0, "least": 1.5, "greatest": 3.0, "n": 1}
FOUND = {
    "bundle": "virtual-thorax",
    "device": "cpu",
    "steps": 10,
    "total_s": SPREAD,
    "startup_s": SPREAD,
    "stages": {"denoise": SPREAD},
    "peak_memory_mb": None,
    "reference_denoise_s": 200.0,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the command asks to be measured; nothing is."""
    calls: list[tuple] = []

    def measure_paper_scale(weights, config, device, scale, progress):
        calls.append((len(weights), config, str(device), scale))
        tiny = {"width": 8, "blocks": [1], "parameters": 9, "slice_flops": 3e9}
        found = {"device": "CPU", "threads": 1, "latents": [4], "sides": {}, "extrapolated": "1 of 2"}
        return found | {"tiny_decoder": tiny}

    def measure_end_to_end(radiograph, bundle, repeats, threads, device, progress):
        progress("whole command", 1, 1)
        calls.append((radiograph, bundle, repeats, threads, device))
        return FOUND

    monkeypatch.setattr(paper_scale, "measure_paper_scale", measure_paper_scale)
    monkeypatch.setattr(end_to_end, "measure_end_to_end", measure_end_to_end)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return calls


def test_a_quick_run_measures_each_thing_once_and_writes_the_table(
    asked: list[tuple], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["bench", "--quick", "--threads", "1", "--passes", "12", "--out", str(out)]) == 0
    (tensors, config, device, scale), command = asked
    assert (tensors, device, scale.steps, scale.our_steps) == (301, "cpu", 1000, 12)
    assert (config.repeats, config.children) == (1, False)
    assert command == (SAMPLE_CXR, "virtual-thorax", 1, 1, "cpu")
    printed = capsys.readouterr().out
    assert "GPU: not measured" in printed
    assert "| denoise by 1000 steps of DDPM " in printed
    assert (out / "bench.md").read_text() == printed
    assert json.loads((out / "bench.json").read_text())["end_to_end"] == [FOUND]


def test_a_full_run_repeats_and_starts_children(asked: list[tuple]) -> None:
    assert main(["bench", "--repeats", "7", "--threads", "1"]) == 0
    assert (asked[0][1].repeats, asked[0][1].children) == (7, True)
    assert asked[1][2] == 3
