"""The real panel, its real buttons, and the real core as a child process."""

import gc
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import types
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest
import slicer
from panels import PICTURES, OpenPanel
from PIL import Image, ImageDraw
from PySide6 import QtCore, QtWidgets
from scenes import UNLIKE, add_second_opinion, node_ids, picture, radiograph_node, write_result

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import PRECISIONS
from xray2ctpa_core.pipelines.bundle import PresetSteps
from xray2ctpa_core.triage.likelihood import PE_COUNTS
from xray2ctpa_core.wording import counted


def descendants(pid):
    found = psutil.Process(pid).children(recursive=True)
    for worker in [process for process in found if "serve" in process.cmdline()]:
        # The resident worker, which the first job starts, ends with Slicer and not with a job.
        kept = {worker, *worker.children(recursive=True)}
        found = [process for process in found if process not in kept]
    return [pid, *(process.pid for process in found)]


def gone(pids):
    return all(not psutil.pid_exists(p) or psutil.Process(p).status() == psutil.STATUS_ZOMBIE for p in pids)


def ready(panel, bundle):
    """The sample radiograph in the panel, checked, and set to be generated from with ``bundle``."""
    panel.parameters.bundle = str(bundle)
    panel.parameters.force = True
    panel.click("sampleButton")
    panel.until(lambda: panel.panel.input.verdict is not None)


def save_views(application, file="views"):
    """What radiograph view and planes show, side by side as in the layout, as a PNG."""
    names = (mrml.RADIOGRAPH_VIEW, "Red", "Green", "Yellow")
    views = np.concatenate([picture(application.slices[name]) for name in names], axis=1)
    image = Image.fromarray(views)
    side = image.width // len(names)
    for number in range(1, len(names)):  # what the views themselves write over the generated planes
        ImageDraw.Draw(image).text((side * (number + 1) - 8, image.height - 8), "SYNTHETIC", anchor="rs")
    image.save(PICTURES / f"{file}.png")


def test_an_empty_panel_says_what_to_do(panel):
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Select a chest X-ray."
    assert "never a diagnosis" in panel.ui.noticeLabel.text
    assert "DEMONSTRATION" in panel.ui.bundleSelector.currentText
    assert "its results mean nothing for a patient" in panel.ui.bundleLabel.text
    assert "its results mean nothing for a patient" in panel.ui.estimateLabel.text
    assert not panel.ui.runAgainButton.enabled
    assert panel.slicer.leftovers() == []
    panel.grab("empty")


def place_of(panel, name):
    """(top, bottom) of a widget in the panel's window, in pixels, at the width of grab."""
    widget = getattr(panel.ui, name)
    corner = QtWidgets.QWidget.mapTo(widget, panel.window, QtCore.QPoint(0, 0))
    return corner.y(), corner.y() + QtWidgets.QWidget.height(widget)


def test_the_notice_is_on_top_and_generate_above_the_fold_of_800_pixels(panel):
    panel.grab("empty")
    assert place_of(panel, "noticeLabel")[0] < 20
    assert place_of(panel, "applyButton")[1] < 400
    assert place_of(panel, "scoreLabel")[1] < 800
    for name in ("modelCollapsibleButton", "batchCollapsibleButton", "logCollapsibleButton"):
        assert getattr(panel.ui, name).collapsed
    assert not panel.ui.applyButton.enabled
    assert "SYNTHETIC" in panel.ui.noticeLabel.text


def test_the_only_radiograph_is_picked_by_itself_and_of_two_none(panel):
    scene = panel.slicer.scene
    volume = radiograph_node(scene, name="chest CT")
    slicer.util.updateVolumeFromArray(volume, np.zeros((30, 40, 50), np.int16))
    radiograph = radiograph_node(scene, name="PA")
    panel.until(lambda: panel.parameters.inputVolume is radiograph, 5)
    panel.parameters.inputVolume = None
    radiograph_node(scene, name="lateral")
    panel.slicer.app.processEvents()
    panel.grab("several")
    assert panel.parameters.inputVolume is None, "two: the user's choice"


def test_a_colour_radiograph_can_be_chosen_whatever_connect_gui_does_to_the_selector(panel):
    colour = panel.slicer.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    slicer.util.updateVolumeFromArray(colour, np.zeros((1, 60, 50, 3), np.uint8))
    assert list(panel.ui.inputSelector.nodeTypes) == ["vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"]
    panel.parameters.inputVolume = colour
    assert panel.ui.inputSelector.currentNode() is colour
    assert panel.parameters.inputVolume is colour


def test_coming_back_to_the_module_keeps_the_verdict_and_asks_nothing(panel, pipeline_bundle):
    ready(panel, pipeline_bundle)
    verdict, asked = panel.panel.input.verdict, []
    panel.logic.check = lambda *arguments: asked.append(arguments)
    panel.widget.exit()
    panel.widget.enter()
    assert panel.panel.input.verdict is verdict
    assert asked == []


def test_a_changed_parameter_rereads_neither_packages_nor_models(panel, monkeypatch):
    from XRay2CTPALib import Bundles

    read = []
    monkeypatch.setattr(importlib.metadata, "version", read.append)
    monkeypatch.setattr(Bundles, "read_bundle_json", read.append)
    for seed in range(1, 6):
        panel.parameters.seed = seed
    assert panel.parameters.seed == 5
    assert read == []


def test_the_panel_lets_everything_go_and_reload_loads_the_parts_anew(app):
    opened = OpenPanel(app)
    panel, logic = weakref.ref(opened.panel), weakref.ref(opened.logic)
    widget = opened.widget
    widget.onReload()
    assert widget.reloaded
    assert not [name for name in sys.modules if name.startswith("XRay2CTPALib")]
    opened.close()
    opened.panel = opened.logic = opened.ui = None
    for _round in range(3):
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        app.app.processEvents()
        gc.collect()
    assert panel() is None
    assert logic() is None


def test_a_volume_of_many_slices_is_refused_with_the_reason(panel):
    volume = radiograph_node(panel.slicer.scene, name="chest CT")
    slicer.util.updateVolumeFromArray(volume, np.zeros((30, 40, 50), np.int16))
    panel.parameters.inputVolume = volume
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "chest CT has 30 slices; a chest radiograph has one."
    assert panel.ui.gateLabel.text == panel.ui.applyButton.toolTip


def test_missing_packages_are_named_and_nothing_is_asked_of_the_core(panel, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name in ("torch", "monai"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    panel.parameters.inputVolume = radiograph_node(panel.slicer.scene)
    panel.panel.refresh()
    assert panel.ui.setupFrame.visible or not panel.ui.setupFrame.isHidden()
    assert "torch, monai" in panel.ui.setupLabel.text
    assert not panel.ui.applyButton.enabled
    assert panel.ui.gateLabel.text == "The radiograph is checked once everything is installed."
    assert panel.slicer.leftovers() == []
    panel.grab("setup")
    panel.slicer.dialogs.answer = False
    panel.click("installButton")
    [(kind, text)] = panel.slicer.dialogs.shown
    assert kind == "ask"
    assert "torch>=2.5: 1180 MB" in text
    assert "numpy" not in text


def test_presets_set_numbers_and_other_numbers_make_a_custom_one(panel):
    info = panel.panel.model.current.info
    own = info.sampling
    # The shipped bundle carries no curve of quality against steps.
    measured = info.preset_steps or PresetSteps(max(1, round(own.steps / 3)), own.steps, 5 * own.steps)
    assert (panel.parameters.steps, panel.parameters.samples) == (own.steps, own.samples)
    panel.ui.presetSelector.setCurrentIndex(2)
    steps, samples = measured.reference, max(8, own.samples)
    assert (panel.ui.stepsSpinBox.value, panel.ui.samplesSpinBox.value) == (steps, samples)
    assert panel.ui.estimateLabel.text.startswith(f"{steps} steps, {samples} samples.")
    offered = [line.split(".")[0] for line in panel.ui.presetSelector.toolTip.splitlines()]
    assert offered[1:] == [
        f"Standard: {measured.standard} steps, 1 sample",
        f"Reference: {steps} steps, {samples} samples",
    ]
    assert offered[0] == f"Preview: {counted(measured.preview, 'step')}, 1 sample"
    panel.ui.presetSelector.setCurrentIndex(0)
    assert (panel.parameters.steps, panel.parameters.samples) == (measured.preview, 1)
    panel.ui.stepsSpinBox.setValue(97)
    assert panel.ui.presetSelector.currentText == "Custom"
    assert panel.parameters.steps == 97


def test_a_run_shows_progress_and_preview_and_ends_in_a_shown_result(panel):
    ready(panel, "virtual-thorax")
    assert panel.panel.input.verdict["accepted"]
    assert "Taken for an upright frontal chest radiograph" in panel.ui.gateLabel.text
    panel.parameters.steps = 2
    panel.parameters.force = False
    panel.grab("ready")
    seen = []
    panel.click("applyButton")
    assert panel.ui.applyButton.text == "Cancel"
    job = panel.logic.job

    def ended():
        if job.progress.fraction and not seen:
            panel.slicer.app.processEvents()
            seen.append((panel.ui.stageLabel.text, panel.ui.progressBar.value))
            panel.grab("running")
        return not panel.logic.isRunning

    panel.until(ended)
    assert job.failures == []
    assert re.fullmatch(r"(Generating|Decoding the volume and scoring it)(, about \d+ s left)?", seen[0][0])
    assert 0 < seen[0][1] < 100, "decoding and scoring are still to come"
    assert str(panel.slicer.temporary) not in " ".join(s for s, _value in seen)
    assert '"event": "result"' in panel.ui.logText.toPlainText()
    assert panel.ui.applyButton.text == "Generate"
    node = panel.ui.resultSelector.currentNode()
    nodes = mrml.result_of(node)
    assert nodes is not None
    assert "SYNTHETIC" in node.GetName()
    assert node.GetNodeReference(mrml.RADIOGRAPH_REFERENCE) is panel.parameters.inputVolume
    assert node.GetAttribute("XRay2CTPA.BundleSource") == "virtual-thorax"
    assert "not the patient" in panel.ui.resultLabel.text
    assert "on this machine" in panel.ui.estimateLabel.text
    assert panel.slicer.leftovers() == []
    views = panel.slicer.app.layoutManager().views
    for name in (*mrml.PLANE_VIEWS, "3D 0"):
        assert views[name].texts() == ["SYNTHETIC"], name
    assert views[mrml.RADIOGRAPH_VIEW].texts() == []
    panel.grab("done")
    save_views(panel.slicer.application)
    panel.ui.overlaySelector.setCurrentIndex(panel.ui.overlaySelector.findText("None"))
    composite = panel.slicer.application.slices["Red"].GetSliceCompositeNode()
    assert composite.GetForegroundVolumeID() is None
    panel.ui.thresholdSlider.value = 0.6
    assert nodes.gradcam.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.6)
    panel.ui.windowSelector.setCurrentIndex(1)
    assert nodes.ctpa.GetDisplayNode().GetLevel() == -600.0
    panel.click("runAgainButton")
    again = panel.logic.job
    assert again is not job
    assert (again.settings.steps, again.settings.seed, again.settings.precision) == (2, 0, "fp32")
    panel.click("applyButton")
    assert again.state == "cancelled"
    assert mrml.result_of(node) is not None


def loaded(panel, tmp_path):
    """A small result in the scene, selected in the panel."""
    radiograph = radiograph_node(panel.slicer.scene, name="PA")
    nodes = mrml.load_result(write_result(tmp_path / "result"), panel.slicer.scene, radiograph)
    panel.until(lambda: panel.ui.resultSelector.currentNode() is nodes.ctpa, 5)
    return nodes


def test_a_result_of_the_scene_is_selected_by_itself_with_the_score_of_every_sample(panel, tmp_path):
    loaded(panel, tmp_path)
    assert panel.ui.scoreLabel.text == (
        "Model's PE score 0.25 (not calibrated), below its operating point 0.50."
    )
    assert "from 0.20 to 0.30: 0.20, 0.30." in panel.ui.otherScoresLabel.text
    assert panel.ui.scoreLabel.enabled
    assert panel.ui.otherScoresLabel.enabled
    assert QtWidgets.QWidget.isHidden(panel.ui.unreliableLabel)
    assert "tiny 1.2.3" in panel.ui.resultLabel.toolTip
    assert "tiny 1.2.3" not in panel.ui.resultLabel.text


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": "0.1"}'])
def test_a_result_whose_record_was_changed_by_hand_says_so_and_the_panel_goes_on(panel, tmp_path, text):
    nodes = loaded(panel, tmp_path)
    nodes.ctpa.SetAttribute(mrml.RECORD_ATTRIBUTE, text)
    panel.panel.update()
    assert panel.ui.resultLabel.text == "Parts of this result were removed or changed: generate it again."
    assert QtWidgets.QWidget.isHidden(panel.ui.scoreLabel)
    assert not panel.ui.windowSelector.enabled
    assert "No generated CTPA is selected." in panel.ui.triageLabel.text
    assert panel.raised == []


def test_the_triage_section_shows_the_way_of_a_case_and_the_score_beside_it(panel, tmp_path):
    ui, triage = panel.ui, panel.panel.triage
    ui.triageCollapsibleButton.collapsed = False
    assert ui.triageStepLabel.text == "Wells 0. Next: measure D-dimer."
    assert "No generated CTPA is selected." in ui.triageLabel.text
    loaded(panel, tmp_path)
    assert "score 0.25, below its operating point 0.50" in ui.triageLabel.text
    assert "likelihood ratio is not known" in ui.triageLabel.text, "a demonstration has no patients"
    ui.ageSpinBox.value = 80
    ui.dimerUnitSelector.setCurrentIndex(2)
    assert ui.dimerUnitSelector.currentText == "mg/L FEU"
    ui.dimerSpinBox.value = 0.75  # 750 ng/mL, under 800
    assert ui.triageStepLabel.text == "Wells 0. Next: excluded by D-dimer."
    triage.wells["dvt_signs"].click()
    triage.wells["heart_rate"].click()
    assert ui.triageStepLabel.text == "Wells 4.5. Next: CTPA."
    assert "NICE NG158" in ui.triageLabel.text
    panel.grab("triage")
    ui.unstableCheckBox.click()
    assert ui.triageStepLabel.text == "Wells 4.5. Next: other pathway."
    image = ui.workflowLabel.pixmap.toImage()
    orange = [(x, y) for x in range(0, image.width(), 2) for y in range(image.height())
              if image.pixelColor(x, y).name() == "#d9822b"]  # fmt: skip
    assert max(x for x, _y in orange) < image.width() * 0.7, "the way ends at the left: the other pathway"


def test_a_score_that_means_nothing_is_greyed_out_below_the_reason_and_the_pathway_does_not_use_it(
    panel, tmp_path
):
    folder = write_result(tmp_path / "result", unreliable=UNLIKE)
    record = json.loads((folder / "result.json").read_text())
    record["pe"]["second_opinion"] = {
        "probability": 0.81, "threshold": 0.5, "positive": True, "calibrated": True,
        "rests_on": "radiograph itself",
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(record))
    nodes = mrml.load_result(folder, panel.slicer.scene, radiograph_node(panel.slicer.scene, name="PA"))
    panel.until(lambda: panel.ui.resultSelector.currentNode() is nodes.ctpa, 5)
    ui = panel.ui
    assert ui.unreliableLabel.text == UNLIKE
    assert not QtWidgets.QWidget.isHidden(ui.unreliableLabel)
    assert "0.25" in ui.scoreLabel.text
    assert "0.20, 0.30" in ui.otherScoresLabel.text
    assert "Second opinion 0.81" in ui.otherScoresLabel.text
    assert not ui.scoreLabel.enabled
    assert not ui.otherScoresLabel.enabled
    assert UNLIKE not in ui.resultLabel.text, "said once"
    assert f"The score of the generated CTPA is not used. {UNLIKE}" in ui.triageLabel.text
    for number in ("0.25", "0.81", "LR"):
        assert number not in ui.triageLabel.text
    ui.triageCollapsibleButton.collapsed = False
    panel.grab("unreliable")
    fine = mrml.load_result(write_result(tmp_path / "fine"), panel.slicer.scene)
    ui.resultSelector.setCurrentNode(fine.ctpa)
    assert ui.scoreLabel.enabled
    assert QtWidgets.QWidget.isHidden(ui.unreliableLabel)
    assert "score 0.25" in ui.triageLabel.text


def test_the_grad_cam_of_a_second_opinion_lies_on_the_radiograph_when_it_is_chosen(panel, tmp_path):
    ui = panel.ui
    offered = lambda: [ui.overlaySelector.itemText(n) for n in range(ui.overlaySelector.count)]  # noqa: E731
    plain = mrml.load_result(write_result(tmp_path / "plain", samples=1), panel.slicer.scene)
    panel.until(lambda: ui.resultSelector.currentNode() is plain.ctpa, 5)
    assert offered() == ["Grad-CAM", "Grad-CAM levels", "None"]
    ui.overlaySelector.setCurrentIndex(1)
    radiograph = radiograph_node(panel.slicer.scene, 640, 520, name="PA")
    upright = slicer.util.arrayFromVolume(radiograph)[0] / 255
    folder = add_second_opinion(write_result(tmp_path / "r"), upright, (slice(300, 400), slice(100, 200)))
    nodes = mrml.load_result(folder, panel.slicer.scene, radiograph)
    panel.panel.result.show(nodes)
    assert panel.parameters.inputVolume is radiograph, "the map on it is no radiograph"
    on_radiograph = "Grad-CAM on the radiograph"
    assert offered() == ["Grad-CAM", "Grad-CAM levels", "Spread of the samples", on_radiograph, "None"]
    assert ui.overlaySelector.currentText == "Grad-CAM levels", "what was chosen is kept"
    assert "Its Grad-CAM can be laid over the radiograph" in ui.otherScoresLabel.text
    composite = panel.slicer.application.slices[mrml.RADIOGRAPH_VIEW].GetSliceCompositeNode()
    assert composite.GetForegroundVolumeID() is None
    ui.overlaySelector.setCurrentIndex(ui.overlaySelector.findText(on_radiograph))
    assert composite.GetForegroundVolumeID() == nodes.radiograph_gradcam.GetID()
    panel.slicer.app.processEvents()
    views = panel.slicer.app.layoutManager().views
    assert views[mrml.RADIOGRAPH_VIEW].texts() == ["SYNTHETIC"], "what lies on it was generated"
    ui.thresholdSlider.value = 0.5
    assert nodes.radiograph_gradcam.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.5)
    panel.grab("second-opinion")
    save_views(panel.slicer.application, "second-opinion-views")
    ui.resultSelector.setCurrentNode(plain.ctpa)
    assert offered() == ["Grad-CAM", "Grad-CAM levels", "None"]
    assert ui.overlaySelector.currentText == "Grad-CAM", "the chosen one is missing here"


def test_the_triage_section_shows_the_interval_of_a_model_with_patients_behind_it(
    panel, tmp_path, monkeypatch
):
    nodes = loaded(panel, tmp_path)
    counts = dict(zip(("true_positive", "false_negative", "false_positive", "true_negative"),
                      (34, 12, 15, 43), strict=True))  # fmt: skip
    info = types.SimpleNamespace(
        sha256=nodes.record["bundle"]["sha256"], is_demonstration=False, metrics={PE_COUNTS: counts}
    )
    monkeypatch.setattr(panel.logic.bundles, "find", lambda _source: types.SimpleNamespace(info=info))
    panel.panel.triage.update()
    # 0.25 is below 0.5. By hand: LR- = (12/46) / (43/58) = 0.35.
    assert "LR- 0.35 [" in panel.ui.triageLabel.text
    assert "of 46 patients with and 58 without PE" in panel.ui.triageLabel.text
    assert "Excludes nothing" in panel.ui.triageLabel.text
    info.is_demonstration = True
    panel.panel.triage.update()
    assert "likelihood ratio is not known" in panel.ui.triageLabel.text


def test_the_volume_is_rendered_by_the_method_that_the_user_prefers(panel):
    from XRay2CTPALib.Views import renderingClass

    assert renderingClass() == mrml.RENDERING_CLASS, "without the module Volume Rendering"
    preferred = "vtkMRMLCPURayCastVolumeRenderingDisplayNode"
    logic = types.SimpleNamespace(GetDefaultRenderingMethod=lambda: preferred)
    slicer.modules.volumerendering = types.SimpleNamespace(logic=lambda: logic)
    assert renderingClass() == preferred


def test_a_result_becomes_a_segmentation_and_is_removed_after_a_question(panel, tmp_path):
    before = node_ids(panel.slicer.scene)
    nodes = loaded(panel, tmp_path)
    panel.click("segmentationButton")
    assert panel.slicer.scene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is not None
    panel.slicer.dialogs.answer = False
    panel.click("removeResultButton")
    assert panel.ui.resultSelector.currentNode() is nodes.ctpa
    panel.slicer.dialogs.answer = True
    panel.click("removeResultButton")
    assert "SYNTHETIC CTPA (PA)" in panel.slicer.dialogs.shown[-1][1]
    left = node_ids(panel.slicer.scene) - before
    assert {panel.slicer.scene.GetNodeByID(i).GetName() for i in left if "Display" not in i} == {"PA"}
    assert panel.ui.resultSelector.currentNode() is None
    assert not panel.ui.removeResultButton.enabled


def test_a_true_ctpa_stands_beside_the_result_with_the_difference(panel, tmp_path):
    nodes = loaded(panel, tmp_path)
    assert panel.ui.compareButton.toolTip == "Select a true CTPA."
    panel.ui.truthSelector.setCurrentNode(nodes.spread)
    assert "was generated" in panel.ui.compareButton.toolTip
    truth = panel.slicer.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "true CTPA")
    slicer.util.updateVolumeFromArray(truth, slicer.util.arrayFromVolume(nodes.ctpa) - 20)
    truth.CopyOrientation(nodes.ctpa)
    panel.ui.truthSelector.setCurrentNode(truth)
    panel.click("compareButton")
    assert panel.ui.comparisonLabel.text.startswith(
        "Generated minus true: +20 HU on average, 20 HU without sign."
    )
    logics = panel.slicer.application.slices
    compared = mrml.result_of(nodes.ctpa)
    assert (
        logics["RedDifference"].GetSliceCompositeNode().GetBackgroundVolumeID() == compared.difference.GetID()
    )
    panel.slicer.app.processEvents()
    views = panel.slicer.app.layoutManager().views
    assert views["Red"].texts() == views["RedDifference"].texts() == ["SYNTHETIC"]
    assert views["RedTruth"].texts() == []
    panel.grab("compared")
    panel.click("compareButton")  # a second time exchanges the nodes
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert sum(node.GetName().startswith("Difference") for node in volumes) == 1


def test_the_files_of_a_result_go_to_the_chosen_folder_and_a_place_that_takes_none_is_said(
    panel, pipeline_bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr(QtWidgets.QFileDialog, "getExistingDirectory", lambda *a: str(tmp_path / "out"))
    panel.click("outputFolderButton")
    assert panel.parameters.outputFolder == str(tmp_path / "out")
    (tmp_path / "out" / "SYNTHETIC_CTPA_radiograph").mkdir(parents=True)  # taken
    panel.parameters.bundle = str(pipeline_bundle)
    panel.parameters.force, panel.parameters.steps, panel.parameters.samples = True, 1, 1
    panel.parameters.inputVolume = radiograph_node(panel.slicer.scene)
    panel.click("applyButton")
    panel.until(lambda: not panel.logic.isRunning)
    kept = tmp_path / "out" / "SYNTHETIC_CTPA_radiograph-2"
    assert {"ctpa.nii.gz", "gradcam.nii.gz", "result.json"} <= {p.name for p in kept.iterdir()}
    assert panel.ui.resultLabel.text.splitlines()[-1] == f"Files: {kept}"
    (tmp_path / "file").write_text("no folder")
    panel.parameters.outputFolder = str(tmp_path / "file")
    panel.click("applyButton")
    panel.until(lambda: not panel.logic.isRunning)
    assert "could not be written to" in panel.ui.resultLabel.text.splitlines()[-1]
    panel.until(lambda: panel.slicer.leftovers() == [])  # the check of the radiograph may end after the run


@pytest.mark.slow
def test_a_picture_that_the_gate_refuses_is_said_before_the_run_and_needs_a_second_decision(panel):
    stripes = radiograph_node(panel.slicer.scene, name="stripes")
    slicer.util.arrayFromVolume(stripes)[:] = (np.arange(100) % 20 * 12).astype(np.uint8)
    panel.parameters.inputVolume = stripes
    panel.until(lambda: panel.panel.input.verdict is not None)
    assert panel.ui.gateLabel.text.startswith("NOT taken for an upright, complete frontal chest radiograph")
    assert len(panel.ui.gateLabel.text.splitlines()) > 1, "and why"
    assert not panel.ui.applyButton.enabled
    assert "not taken for a frontal chest radiograph" in panel.ui.applyButton.toolTip
    panel.grab("gate-warning")
    panel.ui.forceCheckBox.click()
    assert panel.ui.applyButton.enabled
    panel.ui.forceCheckBox.click()
    assert not panel.ui.applyButton.enabled


@pytest.mark.slow
def test_every_precision_of_the_core_can_be_chosen_and_goes_with_the_run(panel):
    from XRay2CTPALib import ParameterNode

    selector = panel.ui.precisionSelector
    assert tuple(selector.itemText(n) for n in range(selector.count)) == PRECISIONS
    assert ParameterNode.settingsFrom(panel.parameters).precision == "auto"
    selector.setCurrentIndex(PRECISIONS.index("tf32"))
    arguments = ParameterNode.settingsFrom(panel.parameters).arguments()
    assert arguments[arguments.index("--precision") + 1] == "tf32"


def test_check_installation_reports_devices_and_measures_this_machine(panel, pipeline_bundle):
    panel.parameters.bundle = str(pipeline_bundle)
    panel.parameters.force = True
    assert "Not yet measured" in panel.ui.estimateLabel.text
    panel.click("checkInstallationButton")
    assert not panel.ui.checkInstallationButton.enabled
    panel.until(lambda: panel.ui.checkInstallationButton.enabled)
    text = panel.ui.installationLabel.text
    assert re.search(r"cpu: \d+ threads, [\d.]+ GB free", text), text
    assert f"torch {importlib.metadata.version('torch')}" in text
    assert text.endswith("A short run ended well.")
    assert re.search(r"2 steps, 1 sample: about \d+ s, [\d.]+ GB of memory", panel.ui.estimateLabel.text)
    assert panel.slicer.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None
    assert panel.slicer.leftovers() == []
    panel.ui.advancedGroupBox.collapsed = False
    panel.grab("advanced")


def test_cancel_leaves_no_process_no_file_and_no_node(panel, pipeline_bundle):
    ready(panel, pipeline_bundle)
    panel.parameters.steps = 1000
    before = node_ids(panel.slicer.scene)
    panel.click("applyButton")
    panel.until(lambda: panel.logic.job.progress.fraction)
    processes, folder = descendants(panel.logic.job.pid), panel.logic.job.folder
    assert folder.is_dir()
    panel.click("applyButton")
    assert panel.logic.job.state == "cancelled"
    panel.until(lambda: gone(processes), 10)
    assert not folder.exists()
    assert panel.slicer.leftovers() == []
    assert node_ids(panel.slicer.scene) == before
    assert panel.ui.applyButton.text == "Generate"
    assert panel.ui.progressFrame.isHidden()
    panel.grab("cancelled")


def test_quitting_ends_the_run_and_the_check(panel, pipeline_bundle):
    others = set(
        descendants(psutil.Process().pid)
    )  # of this test run: multiprocessing's resource tracker, say
    panel.parameters.bundle = str(pipeline_bundle)
    panel.parameters.inputVolume = radiograph_node(panel.slicer.scene)
    panel.click("applyButton")
    processes = [pid for pid in descendants(psutil.Process().pid) if pid not in others]
    assert len(processes) >= 2
    panel.widget.cleanup()
    panel.until(lambda: gone(processes), 10)
    assert panel.slicer.leftovers() == []


def test_a_failed_run_says_what_to_do_and_offers_the_log(panel, pipeline_bundle):
    ready(panel, pipeline_bundle)
    weights = next(Path(pipeline_bundle).rglob("*.safetensors"))
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        panel.click("applyButton")
        panel.until(lambda: not panel.logic.isRunning)
    finally:
        weights.write_bytes(kept)
    assert "is damaged or was changed" in panel.ui.failureLabel.text
    assert "Fetch or install the bundle again" in panel.ui.failureLabel.text
    assert not panel.ui.failureFrame.isHidden()
    panel.grab("failed")
    assert panel.ui.logCollapsibleButton.collapsed
    panel.click("logButton")
    assert not panel.ui.logCollapsibleButton.collapsed
    assert '"event": "error"' in panel.ui.logText.toPlainText()
    assert panel.slicer.leftovers() == []


def test_a_bundle_that_disappears_is_named_and_another_can_be_chosen(panel, pipeline_bundle, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(pipeline_bundle, moved)
    panel.panel.model.add(str(moved))
    assert panel.parameters.bundle == str(moved)
    assert panel.ui.bundleSelector.currentText == "tiny 0.1 - DEMONSTRATION (moved)"
    shutil.rmtree(moved)
    panel.panel.update()
    assert panel.ui.bundleLabel.text == f"The model {moved} is not there any more."
    panel.parameters.inputVolume = radiograph_node(panel.slicer.scene)
    assert not panel.ui.applyButton.enabled
    assert "not there any more" in panel.ui.applyButton.toolTip
    panel.click("removeBundleButton")
    assert panel.parameters.bundle == "virtual-thorax"
    assert panel.ui.bundleSelector.count == 1


def test_a_folder_that_is_no_bundle_is_refused_in_words(panel, tmp_path):
    panel.panel.model.add(str(tmp_path))
    assert panel.parameters.bundle == "virtual-thorax"
    assert "without it" in panel.ui.bundleLabel.text
    assert "OWNER/NAME@REVISION" in panel.ui.bundleLabel.text


def test_a_bundle_on_the_hub_is_fetched_only_after_consent(panel):
    panel.panel.model.add("someone/chest@v1.0")
    assert panel.ui.bundleSelector.currentText == "someone/chest@v1.0 (on the Hub)"
    assert "after you agree" in panel.ui.bundleLabel.text
    panel.slicer.dialogs.answer = False
    panel.parameters.steps, panel.parameters.samples = 2, 1
    panel.panel.run.onApplyButton()
    [(kind, text)] = panel.slicer.dialogs.shown
    assert kind == "ask"
    assert "No image is sent" in text
    assert panel.logic.job is None


def test_leaving_and_closing_the_scene_empty_the_panel_and_it_comes_back(panel):
    panel.parameters.inputVolume = radiograph_node(panel.slicer.scene)
    panel.widget.exit()
    assert panel.parameters is None
    panel.widget.enter()
    assert panel.parameters.inputVolume.GetName() == "radiograph"
    panel.slicer.scene.Clear(0)
    assert panel.parameters.inputVolume is None
    assert panel.ui.gateLabel.text == "Select a chest X-ray."
    panel.until(lambda: panel.slicer.leftovers() == [], 20)


def test_verify_says_that_every_file_is_intact(panel):
    panel.click("verifyBundleButton")
    panel.until(lambda: "files are intact" in panel.ui.bundleLabel.text, 20)
    assert "damaged" not in panel.ui.bundleLabel.text


def test_a_model_dialog_that_is_cancelled_asks_nothing_more(panel, monkeypatch):
    asked = []
    monkeypatch.setattr(
        QtWidgets.QFileDialog, "getExistingDirectory", lambda *a: asked.append("folder") or ""
    )
    monkeypatch.setattr(QtWidgets.QInputDialog, "getText", lambda *a: asked.append("address") or "")
    panel.click("addBundleButton")
    assert asked == ["folder"]
    panel.click("addHubButton")
    assert asked == ["folder", "address"]
    assert panel.ui.bundleSelector.count == 1


def test_two_models_of_one_name_look_different_in_the_list(panel, pipeline_bundle, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(pipeline_bundle, tmp_path / name)
        panel.panel.model.add(str(tmp_path / name))
    combo = panel.ui.bundleSelector
    titles = [combo.itemText(number) for number in range(combo.count)]
    assert titles[1:] == ["tiny 0.1 - DEMONSTRATION (first)", "tiny 0.1 - DEMONSTRATION (second)"]


def missing(monkeypatch, *names):
    real = importlib.metadata.version

    def version(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_one_installation_at_a_time_though_pip_lets_events_through(panel, monkeypatch):
    missing(monkeypatch, "monai")
    calls = []

    def pip_install(_arguments):  # as the real one: events are processed while pip runs
        calls.append(panel.ui.applyButton.enabled)
        panel.slicer.app.processEvents()
        assert not panel.ui.installButton.enabled
        panel.panel.setup.onInstall()
        panel.panel.update()
        assert not panel.ui.applyButton.enabled

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    panel.panel.refresh()
    panel.click("installButton")
    assert calls == [False]
    assert panel.ui.installButton.enabled
    assert panel.slicer.dialogs.cursors == [0], "asked before the wait cursor"
    assert panel.slicer.app.cursors == []


def test_a_failed_pip_is_told_once(panel, monkeypatch):
    missing(monkeypatch, "monai")
    packaging = types.ModuleType("slicer.packaging")

    def pip_ensure(_requirements, **_options):  # as Slicer 5.12's: shows pip's output, then raises
        slicer.util.errorDisplay("pip failed", detailedText="its output")
        raise subprocess.CalledProcessError(1, "pip")

    packaging.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    panel.panel.refresh()
    panel.click("installButton")
    assert [kind for kind, _text in panel.slicer.dialogs.shown] == ["ask", "tell"]
    assert "did not finish" in panel.ui.setupLabel.text


def test_slicers_own_numpy_that_is_too_old_is_named_before_anything_is_asked(panel, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: "1.26.4" if n == "numpy" else real(n))
    panel.panel.refresh()
    panel.click("installButton")
    [(kind, text)] = panel.slicer.dialogs.shown
    assert kind == "tell"
    assert "This Slicer has numpy 1.26.4; X-ray2CTPA needs numpy 2.0." in text
    assert "Use Slicer 5.10 or later" in text


def test_a_failure_of_one_installation_is_shown_and_the_panel_goes_on(panel, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    panel.panel.refresh()
    panel.click("installButton")
    assert [kind for kind, _text in panel.slicer.dialogs.shown] == ["ask", "tell"]
    assert "Extensions Manager" in panel.slicer.dialogs.shown[1][1]
    assert not panel.ui.setupFrame.isHidden()
