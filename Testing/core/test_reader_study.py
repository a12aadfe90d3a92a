"""Protocol, orders, answers on the disk, studies without unfair cues, and the analysis against scipy."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from evaluation_cohort import write_patient
from scipy import stats
from tiny_bundle import write_tiny_pipeline

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.evaluation.patients import cohort_patients
from xray2ctpa_core.io.volumes import read_axial_volume
from xray2ctpa_core.metrics.classification import delong_test
from xray2ctpa_core.reader_study.analysis import analyse
from xray2ctpa_core.reader_study.answers import Answer, AnswerFile, check_answers, read_answers
from xray2ctpa_core.reader_study.making import make_study, noise_of
from xray2ctpa_core.reader_study.multi_reader import compare_readers
from xray2ctpa_core.reader_study.protocol import (
    Phase,
    Protocol,
    StudyCase,
    read_protocol,
    read_truth,
    write_protocol,
)
from xray2ctpa_core.volume import Volume, axial_affine

NAMES = tuple(f"{number:02d}" for number in range(20))


def protocol(design: str = "sequential", washout_days: float = 0.0) -> Protocol:
    cases = tuple(StudyCase(name, f"{name}.nii.gz", f"{name}.png") for name in NAMES)
    phases = (
        Phase("turing", "Real?", ("real", "confidence"), ("volume",), NAMES[:10], repeats=2),
        Phase("alone", "PE alone", ("pe", "confidence"), ("radiograph",), NAMES),
        Phase("both", "PE with", ("pe", "confidence"), ("radiograph", "volume"), NAMES),
    )
    return Protocol("study", 7, design, washout_days, "ab" * 32, cases, phases)


def answer(
    phase: str, case: str, position: int = 0, *, reader: str = "R1", repeat: bool = False, **answers: str
):
    moment = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    return Answer(reader, "p", phase, case, position, repeat, moment, moment, 30.0, 0.0, answers=answers)


def test_every_reader_has_an_order_of_his_own_that_stays_the_same() -> None:
    study = protocol()
    order = study.order("R1", study.phases[0])
    assert order == study.order("R1", study.phases[0])
    assert [shown.case.name for shown in order[:10]] != [
        shown.case.name for shown in study.order("R2", study.phases[0])[:10]
    ]
    assert sorted(shown.case.name for shown in order[:10]) == list(NAMES[:10])
    assert [shown.repeat for shown in order] == [False] * 10 + [True] * 2
    assert [shown.position for shown in order] == list(range(12))


def test_in_a_crossover_some_readers_read_the_last_two_phases_the_other_way_round() -> None:
    study = protocol("crossover")
    orders = {tuple(p.name for p in study.phases_of(f"R{n}")) for n in range(20)}
    assert orders == {("turing", "alone", "both"), ("turing", "both", "alone")}
    assert len({tuple(p.name for p in protocol().phases_of(f"R{n}")) for n in range(20)}) == 1


def test_a_protocol_is_read_back_and_one_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    sha = write_protocol(protocol(), tmp_path)
    assert read_protocol(tmp_path) == (protocol(), sha)
    with pytest.raises(InputError, match="names 99, which is unknown"):
        Protocol("s", 0, "sequential", 0.0, "", (), (Phase("a", "A", (), (), ("99",)),))
    with pytest.raises(InputError, match="code of letters"):
        protocol().order("Dr. Who", protocol().phases[0])
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(InputError, match="Expected a reader study"):
        read_protocol(tmp_path)


def test_answers_are_on_the_disk_at_once_and_reading_goes_on_at_the_first_unanswered_case(
    tmp_path: Path,
) -> None:
    study = protocol()
    file = AnswerFile(tmp_path, study, "p", "R1")
    phase = study.phases[0]
    first = file.next(phase)
    assert first is not None
    given = answer("turing", first.case.name, first.position, real="real", confidence="4")
    file.add(given, phase)
    again = AnswerFile(tmp_path, study, "p", "R1")
    assert again.answers == [given]
    following = again.next(phase)
    assert following is not None
    assert following.position == 1
    with (tmp_path / "answers" / "R1.csv").open("a") as stream:
        stream.write("R1,p,turing,0")  # a crash in the middle of a line
    assert read_answers(tmp_path / "answers" / "R1.csv") == [given]
    second = answer("turing", following.case.name, 1, real="synthetic", confidence="2")
    AnswerFile(tmp_path, study, "p", "R1").add(second, phase)
    assert read_answers(tmp_path / "answers" / "R1.csv") == [given, second], "not behind the half line"
    with pytest.raises(InputError, match="a second one"):
        again.add(given, phase)
    with pytest.raises(InputError, match="for confidence, got None"):
        again.add(answer("turing", "01", 1, real="real"), phase)
    with pytest.raises(InputError, match="answers to the protocol"):
        AnswerFile(tmp_path, study, "another", "R1")


@pytest.mark.parametrize("cut", [1, 2, 40, 10_000], ids=["\\n", "\\r\\n", "half a line", "half a header"])
def test_a_crash_in_the_middle_of_an_answer_loses_that_answer_alone(tmp_path: Path, cut: int) -> None:
    study, path = protocol(), tmp_path / "answers" / "R1.csv"
    order = study.order("R1", study.phases[0])
    given = [answer("turing", order[n].case.name, n, real="real", confidence="4") for n in range(3)]
    for one in given[:2]:
        AnswerFile(tmp_path, study, "p", "R1").add(one, study.phases[0])
    os.truncate(path, max(path.stat().st_size - cut, 5))
    kept = given[:1] if cut < 10_000 else []
    resumed = AnswerFile(tmp_path, study, "p", "R1")
    assert resumed.answers == kept
    resumed.add(given[2], study.phases[0])
    assert read_answers(path) == [*kept, given[2]]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (",real,,,,4", ",perhaps,,,,4", "real has no answer 'perhaps'"),
        (",real,,,,4", ",real,,,,9", "confidence has no answer '9'"),
        (",real,,,,4", ",,,,,4", "real has no answer ''"),
        ("turing,{case},0,", "turing,{other},0,", "case {case} was shown there"),
        ("turing,{case},0,", "turing,{case},77,", "the part has 12 presentations"),
        ("turing,{case},0,", "alone2,{case},0,", "the study has no such part"),
        (",0,False,", ",0,TRUE,", "case {case} was shown there"),
        ("\n", "\n{line}", "it is there twice"),
        (",30.0,", ",-3,", "a damaged one: -3 is no number of seconds"),
        (",30.0,", ",soon,", "a damaged one"),
        (",0,False,", ",0,perhaps,", "a damaged one"),
        ("R1,p", "r1,p", "Expected answers of the reader R1, got those of r1."),
        (",", ";", "a damaged one"),
        ("turing", "t\udce4ring", "can't decode"),
    ],
)
def test_a_table_that_was_changed_by_hand_is_refused_with_the_line(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    study = protocol()
    file = AnswerFile(tmp_path, study, "p", "R1")
    case = study.order("R1", study.phases[0])[0].case.name
    file.add(answer("turing", case, 0, real="real", confidence="4"), study.phases[0])
    content = file.path.read_text()
    line = content.splitlines(keepends=True)[-1]
    names = {"case": case, "other": next(name for name in NAMES if name != case), "line": line}
    before, after, said = (text.format(**names) for text in (before, after, said))
    assert before in content
    if before == "\n":
        content += line
    else:
        content = content.replace(before, after)
    file.path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        AnswerFile(tmp_path, study, "p", "R1")
    assert said in str(caught.value)


def test_a_table_that_a_spreadsheet_has_saved_unchanged_is_read(tmp_path: Path) -> None:
    study = protocol()
    file = AnswerFile(tmp_path, study, "p", "R1")
    case = study.order("R1", study.phases[0])[0].case.name
    given = answer("turing", case, 0, real="real", confidence="4")
    file.add(given, study.phases[0])
    content = file.path.read_text().replace("False", "FALSE")
    file.path.write_text(content, encoding="utf-8-sig", newline="\r\n")
    assert AnswerFile(tmp_path, study, "p", "R1").answers == [given]


def test_a_study_into_which_nothing_can_be_written_is_refused_before_a_case_is_read(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("no folder")
    with pytest.raises(OutputError, match="Answers cannot be written to"):
        AnswerFile(tmp_path, protocol(), "p", "R1")


def test_two_readers_at_once_have_tables_of_their_own(tmp_path: Path) -> None:
    study = protocol()
    files = {reader: AnswerFile(tmp_path, study, "p", reader) for reader in ("R1", "R2")}
    for position in range(3):
        for reader, file in files.items():
            shown = file.next(study.phases[0])
            given = answer("turing", shown.case.name, position, reader=reader, real="real", confidence="4")
            file.add(given, study.phases[0])
    for reader, file in files.items():
        assert [a.reader for a in read_answers(file.path)] == [reader] * 3
        check_answers(read_answers(file.path), study)


def test_a_case_answered_in_a_second_window_is_not_answered_twice(tmp_path: Path) -> None:
    study = protocol()
    first, second = (AnswerFile(tmp_path, study, "p", "R1") for _window in range(2))
    shown = first.next(study.phases[0])
    given = answer("turing", shown.case.name, 0, real="real", confidence="4")
    first.add(given, study.phases[0])
    with pytest.raises(InputError, match="a second one"):
        second.add(given, study.phases[0])
    assert read_answers(first.path) == [given]


def test_a_disk_that_takes_no_answer_is_said_and_the_case_stays_unanswered(tmp_path: Path) -> None:
    study = protocol()
    (tmp_path / "answers").write_text("no folder")
    file = AnswerFile.__new__(AnswerFile)
    file.path, file.protocol, file.sha256, file.reader = tmp_path / "answers" / "R1.csv", study, "p", "R1"
    file.answers = []
    with pytest.raises(OutputError, match="could not be written"):
        file.add(answer("turing", "00", 0, real="real", confidence="1"), study.phases[0])
    shown = file.next(study.phases[0])
    assert shown is not None
    assert shown.position == 0


def test_the_wash_out_is_kept_before_the_last_phase_only(tmp_path: Path) -> None:
    study = protocol(washout_days=28.0)
    file = AnswerFile(tmp_path, study, "p", "R1")
    now = datetime.now(UTC).isoformat()
    file.add(Answer("R1", "p", "alone", "00", 0, False, now, now, 1.0, 0.0,
                    answers={"pe": "no", "confidence": "1"}), study.phases[1])  # fmt: skip
    wait = file.wait_until(study.phases[2])
    assert wait is not None
    assert timedelta(days=27) < wait - datetime.now(UTC) <= timedelta(days=28)
    assert file.wait_until(study.phases[1]) is None


def answers_of(reader: str, alone: str, both: str) -> list[Answer]:
    """A reader's yes ("1") and no on NAMES, surer and surer."""
    return [
        answer(phase, name, n, reader=reader, pe="yes" if said == "1" else "no", confidence=str(1 + n % 5))
        for phase, row in (("alone", alone), ("both", both))
        for n, (name, said) in enumerate(zip(NAMES, row, strict=True))
    ]


TRUTH = {name: {"pe": n < 10, "generated": n % 2 == 0} for n, name in enumerate(NAMES)}
#: The paper's first reader: 0.75, sensitivity 0.8, specificity 0.7 with; five changed for the better.
ALONE, BOTH = "1111100000" + "1111100000", "1111111100" + "1110000000"


def test_the_papers_first_reader_is_reproduced_with_exact_numbers_beside() -> None:
    numbers = analyse(protocol(), answers_of("R1", ALONE, BOTH), TRUTH)
    both = numbers["phases"]["both"]["R1"]
    assert [both[name]["estimate"] for name in ("accuracy", "sensitivity", "specificity")] == [0.75, 0.8, 0.7]
    [test] = numbers["with_and_without"]
    assert (test["right_without_only"], test["right_with_only"]) == (0, 5)
    assert test["exact_p"] == pytest.approx(0.0625), "not significant"
    assert test["uncorrected_p"] == pytest.approx(0.0253, abs=1e-4), "what the paper reports"


def test_an_independent_implementation_gives_the_same_intervals_and_mcnemar() -> None:
    numbers = analyse(protocol(), answers_of("R1", ALONE, BOTH), TRUTH)
    both = numbers["phases"]["both"]["R1"]
    for name, hits, n in (("accuracy", 15, 20), ("sensitivity", 8, 10), ("specificity", 7, 10)):
        interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert (both[name]["lower"], both[name]["upper"]) == pytest.approx((interval.low, interval.high))
    [test] = numbers["with_and_without"]
    table = np.array([[10, test["right_without_only"]], [test["right_with_only"], 5]])
    exact = 2 * stats.binom.cdf(min(table[0, 1], table[1, 0]), table[0, 1] + table[1, 0], 0.5)
    assert test["exact_p"] == pytest.approx(min(1.0, exact))


def test_agreement_is_cohens_kappa_between_readers_and_on_repeats() -> None:
    answers = answers_of("R1", ALONE, BOTH) + answers_of("R2", ALONE, "1" * 10 + "0" * 10)
    repeated = [answer("turing", name, n, repeat=n > 1, real=said, confidence="2")
                for n, (name, said) in enumerate([("00", "real"), ("01", "synthetic"),
                                                  ("00", "real"), ("01", "synthetic")])]  # fmt: skip
    found = {
        (entry["phase"], *entry["readers"]): entry["kappa"]
        for entry in analyse(protocol(), answers + repeated, TRUTH)["agreement"]
    }
    assert found["alone", "R1", "R2"] == 1.0
    # By hand: 15 of 20 alike, 11 and 10 yes: expected 0.55 * 0.5 + 0.45 * 0.5 = 0.5.
    assert found["both", "R1", "R2"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert found["turing", "R1", "R1"] == 1.0


def test_several_readers_are_compared_with_readers_and_cases_random() -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat([1, 0], 30)
    weak = labels * 0.5 + draw.normal(size=(4, 60))
    strong = labels * 2.5 + draw.normal(size=(4, 60))
    result = compare_readers(labels, weak, strong)
    assert result.p < 0.01
    assert result.difference.lower > 0
    assert result.second - result.first == pytest.approx(result.difference.estimate)
    backwards = compare_readers(labels, strong, weak)
    assert backwards.difference.estimate == pytest.approx(-result.difference.estimate)
    assert compare_readers(labels, weak, weak).p == 1.0


def test_readers_who_are_all_alike_are_one_reader_to_the_test() -> None:
    """With no differences between readers the analysis is DeLong's test of two AUROCs."""
    draw = np.random.default_rng(1)
    labels = np.repeat([1, 0], 40)
    first, second = labels + draw.normal(size=80), labels * 1.5 + draw.normal(size=80)
    result = compare_readers(labels, np.stack([first] * 3), np.stack([second] * 3))
    difference, p = delong_test(labels, second, first)
    assert result.difference.estimate == pytest.approx(difference.estimate)
    assert result.p == pytest.approx(p, rel=1e-6)
    assert result.difference.upper == pytest.approx(difference.upper)


def test_equal_ways_are_called_different_about_one_time_in_twenty() -> None:
    draw, labels, called = np.random.default_rng(2), np.repeat([1, 0], 20), 0
    for _study in range(300):
        case = labels + draw.normal(size=40)  # what all readers see in a case
        ways = [case + 0.7 * draw.normal(size=(4, 40)) for _way in range(2)]
        called += compare_readers(labels, *ways).p < 0.05
    assert 3 <= called <= 30


@pytest.fixture
def study(tmp_path: Path) -> Path:
    cohort = tmp_path / "cohort"
    for number in range(8):
        write_patient(cohort, number, pe=number % 2 == 0, heart=6 + number % 3)

    def generate(patient) -> Volume:  # finer, sharper and over a larger field than the real one
        grid = np.random.default_rng(1).integers(-1500, 2500, (40, 60, 60))
        return Volume(grid.astype(np.float32), axial_affine((40, 60, 60), (320.0, 300.0, 330.0)))

    make_study(cohort_patients(cohort, "test"), generate, tmp_path / "study", seed=3)
    return tmp_path / "study"


def test_a_study_has_the_papers_parts_and_its_files_say_nothing(study: Path) -> None:
    protocol, _sha = read_protocol(study)
    truth = read_truth(study, protocol)
    phases = {phase.name: phase for phase in protocol.phases}
    assert [len(phases[n].cases) for n in ("real-or-synthetic", "ratings", "radiograph")] == [8, 4, 8]
    turing = [truth[name] for name in phases["real-or-synthetic"].cases]
    assert sum(case["generated"] for case in turing) == 4
    assert sum(case["generated"] and case["pe"] for case in turing) == 2
    assert sum(truth[name]["pe"] for name in phases["radiograph"].cases) == 4
    assert phases["real-or-synthetic"].blinded
    text = (study / "study.json").read_text()
    assert not any(word in text for word in ('true,\n  "pe', 'generated":', "patients/", "/0000"))
    assert all((study / case.volume).is_file() for case in protocol.cases if case.volume)


def test_real_and_generated_volumes_share_grid_range_noise_and_type(study: Path) -> None:
    protocol, _sha = read_protocol(study)
    truth, noise = read_truth(study, protocol), {True: [], False: []}
    volumes = {case.name: read_axial_volume(study / case.volume) for case in protocol.cases if case.volume}
    assert len({v.array.shape for v in volumes.values()}) == 1
    assert len({v.array.dtype for v in volumes.values()}) == 1
    assert all(np.allclose(v.affine, next(iter(volumes.values())).affine) for v in volumes.values())
    # By hand: the real ones have voxels of 300/16, 240/32 and 300/32 mm, the generated ones finer ones, and
    # 320, 300 and 330 mm, in whose place the patient's own 300, 240 and 300 come.
    assert next(iter(volumes.values())).spacing == pytest.approx((300 / 32, 240 / 32, 300 / 16))
    assert all(v.array.min() >= -1000 and v.array.max() <= 900 for v in volumes.values())
    for name, volume in volumes.items():
        fine = np.diff(volume.array.astype(float), n=2, axis=0)
        noise[truth[name]["generated"]].append(np.median(np.abs(fine)))
    assert np.median(noise[False]) > 5, "noise in the real ones, which had none"


def test_a_generated_volume_that_is_the_real_one_in_other_millimetres_is_not_told_apart(
    tmp_path: Path,
) -> None:
    for number in range(8):
        write_patient(tmp_path / "cohort", number, pe=number % 2 == 0, heart=6)
    patients = cohort_patients(tmp_path / "cohort", "test")

    def generate(
        patient,
    ) -> Volume:  # as of a radiograph without spacing: 10 % larger, elsewhere, and noisier
        own = np.random.default_rng(int(patient.name)).normal(0, 8, patient.hu.shape)
        moved = axial_affine(patient.hu.shape, (330.0, 264.0, 330.0), (9.0, 9.0, 9.0))
        return Volume((patient.hu + own).astype(np.float32), moved)

    make_study(patients, generate, tmp_path / "study", seed=3)
    truth = read_truth(tmp_path / "study", read_protocol(tmp_path / "study")[0])
    volumes = {True: [], False: []}
    for name, true in truth.items():
        volumes[true["generated"]].append(read_axial_volume(tmp_path / "study" / "cases" / f"{name}.nii.gz"))
    noises = {kind: [noise_of(volume.array) for volume in group] for kind, group in volumes.items()}
    assert np.mean(noises[True]) == pytest.approx(np.mean(noises[False]), rel=0.03)
    real, generated = (np.mean([volume.array for volume in volumes[kind]], axis=0) for kind in (False, True))
    assert np.abs(real - generated).mean() < 12, (
        "noise of 20 in means of 4 and 12: 9; places that differ: more"
    )


def test_a_study_whose_generation_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    for number in range(4):
        write_patient(tmp_path / "cohort", number, pe=number % 2 == 0, heart=6)

    def generate(_patient) -> Volume:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_study(cohort_patients(tmp_path / "cohort", "test"), generate, tmp_path / "study")
    assert not (tmp_path / "study").exists()


WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from evaluation_cohort import write_patient
from xray2ctpa_core.evaluation.patients import cohort_patients
from xray2ctpa_core.io.volumes import read_axial_volume
from xray2ctpa_core.reader_study import making
written = making.write_volume
def slowly(*arguments):
    written(*arguments)
    print("written", flush=True)
    time.sleep(1)
making.write_volume = slowly
def generate(patient):
    return read_axial_volume(patient.folder / "ctpa.nii.gz")
making.make_study(cohort_patients(Path(sys.argv[1]), "test"), generate, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_study_whose_writing_is_killed_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    for number in range(4):
        write_patient(tmp_path / "cohort", number, pe=number % 2 == 0, heart=6)
    out = tmp_path / "studies" / "mine"
    command = [sys.executable, "-c", WRITER, tmp_path / "cohort", out, Path(__file__).parent]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    assert any(out.parent.glob("*/cases/*.nii.gz")), "it has begun to write"
    writer.send_signal(how)
    assert writer.wait(30) != 0
    writer.stdout.close()
    ends = time.monotonic() + 20
    while out.parent.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort"]


def test_noise_is_measured_in_soft_tissue_whatever_lies_around() -> None:
    draw = np.random.default_rng(0)
    array = np.full((8, 40, 40), 50.0) + draw.normal(0, 10, (8, 40, 40))
    array[:, :20] = -1000 + draw.normal(0, 90, (8, 20, 40))
    assert noise_of(array) == pytest.approx(10, rel=0.05)
    assert noise_of(np.full((4, 4, 4), -1000.0)) == 0.0


def test_the_demo_study_is_made_of_ten_patients_with_and_ten_without_pe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xray2ctpa_core.cli import reader_study as command
    from xray2ctpa_core.simulation.signs import PREVALENCE

    draws = [np.random.default_rng([command.DEMO_SEED, n]).random() for n in range(command.DEMO_CASES)]
    has_pe = [draw < PREVALENCE for draw in draws]
    assert sum(has_pe) == 10

    def build(cohort: Path, n: int, seed: int, workers: int, progress) -> None:
        assert (n, seed, workers) == (20, command.DEMO_SEED, 2)
        for number in range(n):
            write_patient(cohort, number, pe=has_pe[number], heart=6)
        progress(n, n)

    monkeypatch.setattr("xray2ctpa_core.simulation.build.build_cohort", build)
    bundle = write_tiny_pipeline(tmp_path / "tiny")
    words = ["reader-study", "demo", str(tmp_path / "study"), "--bundle", str(bundle), "--workers", "2"]
    assert main(words) == 0
    assert "Demo study of 20 virtual patients" in capsys.readouterr().out
    study, _sha = read_protocol(tmp_path / "study")
    assert [len(phase.cases) for phase in study.phases] == [20, 10, 20, 20]
    assert sum(true["pe"] for true in read_truth(tmp_path / "study", study).values()) == 25
    assert main(words) == 2
    assert "Expected a new folder for the study" in capsys.readouterr().err


def test_a_changed_truth_is_refused(study: Path) -> None:
    protocol, _sha = read_protocol(study)
    truth = json.loads((study / "truth.json").read_text())
    next(iter(truth.values()))["pe"] ^= True
    (study / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(InputError, match="Expected the truth with SHA-256"):
        read_truth(study, protocol)


def test_the_command_prints_the_tables_beside_the_papers(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol, sha = read_protocol(study)
    truth = read_truth(study, protocol)
    moment = datetime.now(UTC).isoformat()
    for reader in ("R1", "R2"):
        file = AnswerFile(study, protocol, sha, reader)
        for phase in protocol.phases:
            while (shown := file.next(phase)) is not None:
                true = truth[shown.case.name]
                given = {"anatomy": "4", "consistency": "5", "confidence": "3"}
                given["pe"] = "yes" if true["pe"] else "no"
                given["real"] = "synthetic" if true["generated"] else "real"
                answers = {question: given[question] for question in phase.questions}
                place = (shown.case.name, shown.position, shown.repeat, moment, moment, 12.0, 0.0)
                file.add(Answer(reader, sha, phase.name, *place, answers=answers), phase)
    assert main(["reader-study", "analyse", str(study), "--json", str(study / "numbers.json")]) == 0
    text = capsys.readouterr().out
    assert "| R1 | 8 | 12 | 1.000 [0.676, 1.000]" in text
    assert "X-ray2CTPA, Table 6: paper, reader 1: accuracy 0.75" in text
    assert "2 readers, 8 cases: mean AUROC 1.000 without, 1.000 with" in text
    assert json.loads((study / "numbers.json").read_text())["protocol_sha256"] == sha
    assert main(["reader-study", "analyse", str(study.parent)]) == 2
    assert "Expected a reader study" in capsys.readouterr().err
