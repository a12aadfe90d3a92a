import json

import pytest
from evaluation_cohort import ArithmeticPipeline, write_patient

from xray2ctpa_core.cli import evaluate
from xray2ctpa_core.cli.main import main
from xray2ctpa_core.constants import EXIT_DONE, EXIT_UNUSABLE_INPUT
from xray2ctpa_core.evaluation.patients import cohort_patients

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")


@pytest.fixture
def cohorts(tmp_path, monkeypatch):
    """An unseen and a training cohort; every bundle's name loads the arithmetic pipeline."""
    for name, hearts in (("unseen", (6, 6, 8, 8)), ("training", (6, 8))):
        for number, heart in enumerate(hearts):
            write_patient(tmp_path / name, number, pe=number % 2 == 0, heart=heart)
    template = cohort_patients(tmp_path / "unseen", "test")[0].hu
    loaded = []

    def load(names, device):
        loaded.extend([*names, device])
        return [ArithmeticPipeline(template) for _ in names]

    monkeypatch.setattr(evaluate, "load_pipelines", load)
    return tmp_path / "unseen", tmp_path / "training", loaded


def test_evaluate_prints_the_report_and_writes_it_beside_its_numbers(cohorts, tmp_path, capsys):
    unseen, training, loaded = cohorts
    out = tmp_path / "out"
    counts = ["--images", "2", "--multi", "1", "--samples", "2", "--auroc", "4"]
    command = ["evaluate", str(unseen), "--train", str(training), "--bundle", "a", "--device", "cpu"]
    assert main([*command, *counts, "--metrics", "fid", "--out", str(out)]) == EXIT_DONE
    printed = capsys.readouterr().out
    assert "| one sample" in printed
    assert (out / "evaluation.md").read_text(encoding="utf-8") == printed
    numbers = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert numbers["settings"]["samples"] == 2
    assert "no FID" in numbers["features"]["fid"]
    assert [e["patients"] for e in numbers["images"] if e["method"] == "mean of 2 samples"] == [1]
    assert loaded == ["a", "cpu"]


def test_fewer_images_than_several_samples_are_no_contradiction(cohorts, capsys):
    unseen, training, _ = cohorts
    arguments = ["--images", "1", "--auroc", "0", "--samples", "2"]
    assert main(["evaluate", str(unseen), "--train", str(training), *arguments]) == EXIT_DONE
    assert "Pulmonary embolism" not in capsys.readouterr().out


def test_nothing_to_measure_on_is_refused(cohorts, capsys):
    assert main(["evaluate"]) == EXIT_UNUSABLE_INPUT
    assert "a cohort or --people" in capsys.readouterr().err


def test_people_alone_need_no_cohort(cohorts, tmp_path, capsys):
    assert main(["evaluate", "--people", str(tmp_path / "nobody")]) == EXIT_UNUSABLE_INPUT
    assert "Expected people's CTs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--train", "nowhere"],
        ["--metrics", "fvd,colour"],
        ["--metrics", "fid", "--weights", "nowhere", "--auroc", "0", "--images", "1", "--multi", "1"],
        ["--images", "-1"],
        ["--split", "test"],  # the same cohort for the baselines
    ],
)
def test_unusable_arguments_exit_with_2_and_no_traceback(cohorts, capsys, arguments):
    assert main(["evaluate", str(cohorts[0]), *arguments]) == EXIT_UNUSABLE_INPUT
    lines = capsys.readouterr().err.strip().splitlines()
    assert 1 <= len(lines) <= 2
    assert "Traceback" not in lines[0]
