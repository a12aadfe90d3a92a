"""A study of 20 cases read through the panel's own buttons: interrupted, resumed, analysed."""

import sys
import traceback

import numpy as np
import pytest
from evaluation_cohort import write_patient
from panels import PANEL_WIDTH, PICTURES, _Parent, dark_palette, light_palette
from PySide6 import QtCore, QtWidgets
from pythonqt import wrapped

from xray2ctpa_core import mrml
from xray2ctpa_core.evaluation.patients import cohort_patients
from xray2ctpa_core.reader_study.analysis import analyse
from xray2ctpa_core.reader_study.answers import read_study_answers
from xray2ctpa_core.reader_study.making import make_study
from xray2ctpa_core.reader_study.protocol import read_protocol, read_truth
from xray2ctpa_core.volume import Volume, axial_affine


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """20 patients, 10 with PE; read anew by every reader's code."""
    folder = tmp_path_factory.mktemp("reader")
    for number in range(20):
        write_patient(folder / "cohort", number, pe=number % 2 == 0, heart=6 + number % 3)

    def generate(_patient):
        grid = np.random.default_rng(1).integers(-1000, 400, (12, 24, 24))
        return Volume(grid.astype(np.float32), axial_affine((12, 24, 24), (300.0, 240.0, 300.0)))

    make_study(cohort_patients(folder / "cohort", "test"), generate, folder / "study", seed=5)
    return folder / "study"


class Opened:
    """The module in a window, and what its slots raise."""

    def __init__(self, app):
        import XRay2CTPAReaderStudy
        from XRay2CTPALib import Annotations

        self.app, self.annotations, self.raised = app, Annotations, []
        self._hook = sys.excepthook
        sys.excepthook = lambda *e: self.raised.append("".join(traceback.format_exception(*e)))
        self.window = wrapped(QtWidgets.QWidget)()
        QtWidgets.QVBoxLayout(self.window)
        self.widget = XRay2CTPAReaderStudy.XRay2CTPAReaderStudyWidget(_Parent(self.window))
        self.widget.setup()
        self.panel, self.ui = self.widget.panel, self.widget.ui

    def click(self, name):
        button = getattr(self.ui, name)
        assert button.enabled, f"{name}: {button.toolTip}"
        button.click()
        assert self.raised == []

    def start(self, study, reader):
        self.ui.studyEdit.text = str(study)
        self.ui.readerEdit.setText(reader)
        self.click("startButton")

    def answer(self, wanted):
        """Presses the radio button of every question; ``wanted`` is value by question."""
        for name, choices in self.panel.groups.items():
            dict(choices)[wanted[name]].click()

    def grab(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        qt_app = QtWidgets.QApplication.instance()
        qt_app.setStyle("Fusion")
        for suffix, palette in (("-dark", dark_palette()), ("", light_palette())):
            qt_app.setPalette(palette)
            QtWidgets.QWidget.setFixedWidth(self.window, PANEL_WIDTH)
            QtWidgets.QWidget.show(self.window)
            self.app.app.processEvents()
            layout = QtWidgets.QWidget.layout(self.window)
            height = max(layout.totalHeightForWidth(PANEL_WIDTH), layout.totalSizeHint().height())
            QtWidgets.QWidget.resize(self.window, PANEL_WIDTH, height)
            self.app.app.processEvents()
            assert layout.totalMinimumSize().width() <= PANEL_WIDTH
            QtWidgets.QWidget.grab(self.window).save(str(PICTURES / f"{name}{suffix}.png"))

    def close(self):
        self.widget.cleanup()
        self.annotations.stopWatching()
        sys.excepthook = self._hook
        QtWidgets.QWidget.hide(self.window)
        QtCore.QObject.deleteLater(self.window)


@pytest.fixture
def opened(app):
    module = Opened(app)
    yield module
    module.close()


RIGHT = {"anatomy": "4", "consistency": "4", "confidence": "3"}


def views(app):
    for _round in range(2):
        app.app.processEvents()
    return {name: view.texts() for name, view in app.app.layoutManager().views.items()}


def test_a_study_of_20_cases_is_read_interrupted_resumed_and_analysed(app, opened, study):
    truth_of = read_truth(study, read_protocol(study)[0])
    opened.start(study, "R1")
    seen, without = [], 0
    for count in range(200):
        reading = opened.panel.reading
        if reading is None:
            break
        name, phase = reading.shown.case.name, reading.phase.name
        true = truth_of[name]
        seen.append((phase, name, reading.shown.repeat))
        # From the radiograph alone this reader says "no" to the first five with PE, later he is right.
        missed = phase == "radiograph" and true["pe"] and (without := without + 1) <= 5
        opened.answer(RIGHT | {
            "pe": "yes" if true["pe"] and not missed else "no",
            "real": "synthetic" if true["generated"] else "real",
        })  # fmt: skip
        opened.click("nextButton")
        if count == 7:  # the application is closed in the middle and opened again
            opened.close()
            again = Opened(app)
            again.start(study, "R1")
            opened.__dict__.update(again.__dict__)
            assert opened.panel.reading.shown.position == 8
    assert opened.ui.messageLabel.text == "The study is complete. Thank you."
    assert len(seen) == len(set(seen)) == (20 + 2) + 10 + 20 + 20
    protocol, sha = read_protocol(study)
    answers = [a for a in read_study_answers(study) if a.reader == "R1"]
    assert [(a.phase, a.case, a.repeat) for a in answers] == seen
    assert {a.protocol_sha256 for a in answers} == {sha}
    assert all(a.seconds >= 0 and a.software.startswith("Slicer 5.12.3") for a in answers)
    assert answers[0].display == "window 900 level 150"
    numbers = analyse(protocol, answers, read_truth(study, protocol))
    assert numbers["phases"]["real-or-synthetic"]["R1"]["accuracy"]["estimate"] == 1.0
    assert numbers["phases"]["radiograph"]["R1"]["sensitivity"]["estimate"] == 0.5
    assert numbers["phases"]["radiograph-and-ctpa"]["R1"]["sensitivity"]["estimate"] == 1.0
    [test] = numbers["with_and_without"]
    assert (test["right_without_only"], test["right_with_only"], test["exact_p"]) == (0, 5, 0.0625)


def test_nothing_in_the_application_says_what_a_blinded_case_is(app, opened, study):
    opened.start(study, "R2")
    opened.grab("reader-study")
    assert opened.panel.reading.phase.blinded
    red = app.application.slices["Red"].GetSliceCompositeNode()
    node = app.scene.GetNodeByID(red.GetBackgroundVolumeID())
    assert node.GetName() == "Case 1"
    assert node.GetStorageNode() is None
    assert node.GetHideFromEditors() == 1
    assert node.GetSaveWithScene() == 0
    assert node.GetAttribute(mrml.NOTICE_ATTRIBUTE) is None
    storages = [app.scene.GetNthNodeByClass(n, "vtkMRMLStorageNode").GetFileName() or ""
                for n in range(app.scene.GetNumberOfNodesByClass("vtkMRMLStorageNode"))]  # fmt: skip
    assert not any("cases" in name for name in storages)
    assert all(texts == [] for texts in views(app).values())
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (900.0, 150.0)
    opened.click("stopButton")
    assert app.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None


def test_a_generated_ctpa_in_an_unblinded_part_says_synthetic(app, opened, study):
    opened.start(study, "R3")
    while opened.panel.reading.phase.name == "real-or-synthetic":
        opened.answer(RIGHT | {"real": "real"})
        opened.click("nextButton")
    assert opened.panel.reading.phase.name == "ratings"
    assert views(app)["Red"] == ["SYNTHETIC"]
    opened.grab("reader-study-ratings")


def test_every_question_needs_an_answer_and_pausing_hides_the_case_and_stops_the_clock(app, opened, study):
    opened.start(study, "R4")
    assert not opened.ui.nextButton.enabled
    assert opened.ui.nextButton.toolTip == "Answer every question first."
    now = [100.0]
    opened.panel.reading._clock = lambda: now[0]
    opened.panel.reading._began = 100.0
    dict(opened.panel.groups["real"])["real"].click()
    assert not opened.ui.nextButton.enabled
    dict(opened.panel.groups["confidence"])["5"].click()
    assert opened.ui.nextButton.enabled
    now[0] = 110.0
    opened.click("pauseButton")
    assert not opened.ui.nextButton.enabled
    assert app.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None
    now[0] = 170.0
    opened.click("pauseButton")
    assert app.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is not None
    now[0] = 175.0
    opened.click("nextButton")
    [answer] = [a for a in read_study_answers(study) if a.reader == "R4"]
    assert (answer.seconds, answer.paused_seconds) == (15.0, 60.0)
    assert answer.answers == {"real": "real", "confidence": "5"}


def test_a_scene_that_is_closed_ends_reading_and_the_case_is_shown_again(app, opened, study):
    opened.start(study, "R5")
    opened.answer(RIGHT | {"real": "real"})
    opened.click("nextButton")
    app.scene.Clear(0)
    assert opened.panel.reading is None
    assert "The scene was closed." in opened.ui.messageLabel.text
    assert not QtWidgets.QWidget.isHidden(opened.ui.studyCollapsibleButton)
    opened.start(study, "R5")
    assert opened.panel.reading.shown.position == 1
    assert app.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode").GetName() == "Case 2"
    assert opened.raised == []


def test_a_wrong_folder_and_a_wrong_code_are_said(opened, study, tmp_path):
    assert not opened.ui.startButton.enabled
    opened.start(tmp_path, "R1")
    assert "Expected a reader study" in opened.ui.messageLabel.text
    opened.start(study, "Dr. Who?")
    assert "Expected a reader's code" in opened.ui.messageLabel.text
    assert opened.panel.reading is None


def test_two_readers_see_the_cases_in_different_orders(study):
    protocol, _sha = read_protocol(study)
    first, second = (protocol.order(reader, protocol.phases[0]) for reader in ("R1", "R2"))
    assert [shown.case.name for shown in first] != [shown.case.name for shown in second]
