"""Several radiographs together: shared batches, every result as if alone, whole, and in order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import io_radiographs as radiographs
import numpy as np
import pytest
from cli_runs import names
from result_reporters import Kept

from xray2ctpa_core.errors import Cancelled, DeviceError, InputError
from xray2ctpa_core.generation.batch import Case, attempts
from xray2ctpa_core.generation.job import Generator
from xray2ctpa_core.generation.settings import Wishes
from xray2ctpa_core.io.result_files import ALWAYS
from xray2ctpa_core.pipelines.bundle import verify_bundle
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Five radiographs, of which the fourth is none."""
    for number in range(5):
        shifted = np.roll(radiographs.quantised(12), 3 * number, axis=1).copy()
        radiographs.write_dicom(tmp_path / f"r{number}.dcm", shifted)
    (tmp_path / "r3.dcm").write_text("no radiograph")
    return [Case(tmp_path / f"r{number}.dcm", tmp_path / "out" / f"r{number}") for number in range(5)]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has a CPU generate together what a GPU would; numbers of the radiographs that were."""
    sizes: list[int] = []
    of_framed = XRay2CTPAPipeline.of_framed

    def counting(self: XRay2CTPAPipeline, framed: Any, **settings: Any) -> Any:
        sizes.append(len(framed))
        return of_framed(self, framed, **settings)

    monkeypatch.setattr(XRay2CTPAPipeline, "of_framed", counting)
    monkeypatch.setattr(XRay2CTPAPipeline, "radiographs_at_once", lambda *_: 4)
    return sizes


def generator_of(bundle: Path, reporter: Kept, samples: int = 1) -> Generator:
    info = verify_bundle(bundle)
    settings = Wishes(steps=2, samples=samples, seed=3, device="cpu", force=True).settings(info)
    return Generator(bundle, info, settings, reporter)


def volumes(case: Case) -> dict[str, bytes]:
    return {name: (case.target / name).read_bytes() for name in ("ctpa.nii.gz", "gradcam.nii.gz")}


def test_each_result_is_that_of_one_by_one_and_an_unusable_radiograph_stops_none(
    cases: list[Case], pipeline_bundle: Path, monkeypatch: pytest.MonkeyPatch, together: list[int]
) -> None:
    """The first loads the bundle; the other four go together, three of them can be used."""
    reporter = Kept()
    outcomes = list(attempts(generator_of(pipeline_bundle, reporter), cases, reporter))
    assert together == [1, 3]
    assert [case for case, _ in outcomes] == cases
    assert [isinstance(failure, InputError) for _, failure in outcomes] == [False] * 3 + [True, False]
    assert reporter.results == [(cases[n].target, False) for n in (0, 1, 2, 4)]
    assert names(cases[0].target.parent) == ["r0", "r1", "r2", "r4"]
    assert reporter.steps == [(1, 2), (2, 2), *((step, 6) for step in range(1, 7))]
    made = {case: volumes(case) for case in cases if case.target.exists()}
    assert len({volume["ctpa.nii.gz"] for volume in made.values()}) == 4
    for case in made:
        assert set(ALWAYS) <= set(names(case.target))
        case.target.rename(case.target.with_name(f"{case.target.name}-together"))
    monkeypatch.setattr(XRay2CTPAPipeline, "radiographs_at_once", lambda *_: 1)
    alone = list(attempts(generator_of(pipeline_bundle, Kept()), cases, Kept()))
    assert together == [1, 3, *[1] * 4]
    assert [failure is None for _, failure in alone] == [True] * 3 + [False, True]
    assert {case: volumes(case) for case in made} == made


def test_complete_results_are_not_made_again_among_others_that_are(
    cases: list[Case], pipeline_bundle: Path, together: list[int]
) -> None:
    reporter = Kept()
    first = [cases[0], cases[2]]
    assert [f for _, f in attempts(generator_of(pipeline_bundle, reporter), first, reporter)] == [None, None]
    written = {case: (case.target / "result.json").stat().st_mtime_ns for case in first}
    again = Kept()
    list(attempts(generator_of(pipeline_bundle, again), [cases[1], cases[0], cases[2], cases[4]], again))
    assert again.results == [(cases[n].target, n in (0, 2)) for n in (1, 0, 2, 4)]
    assert together == [1, 1, 1, 1]
    assert {case: (case.target / "result.json").stat().st_mtime_ns for case in first} == written


def test_what_fails_only_together_is_done_one_by_one(
    cases: list[Case], pipeline_bundle: Path, monkeypatch: pytest.MonkeyPatch, together: list[int]
) -> None:
    of_framed = XRay2CTPAPipeline.of_framed

    def short_of_memory(self: XRay2CTPAPipeline, framed: Any, **settings: Any) -> Any:
        if len(framed) > 1:
            raise MemoryError
        return of_framed(self, framed, **settings)

    monkeypatch.setattr(XRay2CTPAPipeline, "of_framed", short_of_memory)
    reporter = Kept()
    outcomes = list(attempts(generator_of(pipeline_bundle, reporter), cases, reporter))
    assert together == [1, 1, 1, 1]
    assert [failure is None for _, failure in outcomes] == [True] * 3 + [False, True]
    assert names(cases[0].target.parent) == ["r0", "r1", "r2", "r4"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, DeviceError("none"), OSError(28, "No space left")])
def test_nothing_partial_is_left_where_writing_ends_early(
    cases: list[Case],
    pipeline_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    together: list[int],
    raised: BaseException,
) -> None:
    """The second of those that are written together fails; the others are whole, also before an interrupt."""
    write = Generator._write

    def failing(self: Generator, folder: Path, generated: Any) -> None:
        if generated.radiograph.name == "r2.dcm":
            (folder / "ctpa.nii.gz").write_text("half")
            raise raised
        write(self, folder, generated)

    monkeypatch.setattr(Generator, "_write", failing)
    reporter = Kept()
    outcomes: Iterator[Any] = attempts(generator_of(pipeline_bundle, reporter), cases, reporter)
    if raised is KeyboardInterrupt:
        with pytest.raises((KeyboardInterrupt, Cancelled)):
            list(outcomes)
    else:
        assert [failure is None for _, failure in outcomes] == [True, True, False, False, True]
    assert names(cases[0].target.parent) == ["r0", "r1", "r4"]
    assert all(set(ALWAYS) <= set(names(cases[n].target)) for n in (0, 1, 4))


def test_a_cpu_takes_radiographs_one_by_one_and_a_gpu_as_many_as_fill_a_batch(pipeline_bundle: Path) -> None:
    pipeline = XRay2CTPAPipeline.from_pretrained(pipeline_bundle)
    assert [pipeline.radiographs_at_once(samples) for samples in (1, 4)] == [1, 1]
    pipeline.samples_at_once = 8  # as on a GPU
    assert [pipeline.radiographs_at_once(samples) for samples in (1, 3, 8, 9)] == [8, 2, 1, 1]
    pipeline.samples_at_once = 2  # after its memory was short
    assert pipeline.radiographs_at_once() == 2
