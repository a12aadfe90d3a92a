"""The real panel, its real buttons, and the real core as a child process."""

import importlib.metadata
from pathlib import Path

import numpy as np
import psutil
import pytest
import slicer
from panels import OpenPanel
from scenes import film_node, node_ids

from xray2ctpa_core import mrml


@pytest.fixture
def panel(app):
    opened = OpenPanel(app)
    yield opened
    opened.close()


def descendants(pid):
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def gone(pids):
    return all(not psutil.pid_exists(p) or psutil.Process(p).status() == psutil.STATUS_ZOMBIE for p in pids)


def ready(panel, bundle):
    """The sample film in the panel, checked, and set to be generated from with ``bundle``."""
    panel.parameters.bundle = str(bundle)
    panel.parameters.force = True
    panel.click("sampleButton")
    panel.until(lambda: panel.panel.input.verdict is not None)


def test_an_empty_panel_says_what_to_do(panel):
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Select a chest X-ray."
    assert "never a diagnosis" in panel.ui.noticeLabel.text
    assert "DEMONSTRATION" in panel.ui.bundleSelector.currentText
    assert "its results mean nothing for a patient" in panel.ui.bundleLabel.text
    assert not panel.ui.runAgainButton.enabled
    assert panel.slicer.leftovers() == []
    panel.grab("empty")


def test_a_volume_of_many_slices_is_refused_with_the_reason(panel):
    volume = film_node(panel.slicer.scene, name="chest CT")
    slicer.util.updateVolumeFromArray(volume, np.zeros((30, 40, 50), np.int16))
    panel.parameters.inputVolume = volume
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "chest CT has 30 slices; a chest X-ray has one."
    assert panel.ui.gateLabel.text == panel.ui.applyButton.toolTip


def test_missing_packages_are_named_and_nothing_is_asked_of_the_core(panel, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name in ("torch", "monai"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    panel.parameters.inputVolume = film_node(panel.slicer.scene)
    panel.panel.update()
    assert panel.ui.setupFrame.visible or not panel.ui.setupFrame.isHidden()
    assert "torch, monai" in panel.ui.setupLabel.text
    assert not panel.ui.applyButton.enabled
    assert panel.ui.gateLabel.text == "The picture is checked once everything is installed."
    assert panel.slicer.leftovers() == []
    panel.grab("setup")
    panel.slicer.dialogs.answer = False
    panel.click("installButton")
    [(kind, text)] = panel.slicer.dialogs.shown
    assert kind == "ask"
    assert "torch>=2.4: 1180 MB" in text
    assert "numpy" not in text


def test_presets_set_numbers_and_other_numbers_make_a_custom_one(panel):
    assert (panel.parameters.steps, panel.parameters.samples) == (10, 1)
    panel.ui.presetSelector.setCurrentIndex(2)
    assert (panel.ui.stepsSpinBox.value, panel.ui.samplesSpinBox.value) == (50, 8)
    assert panel.ui.estimateLabel.text.startswith("50 steps, 8 samples.")
    panel.ui.presetSelector.setCurrentIndex(0)
    assert (panel.parameters.steps, panel.parameters.samples) == (3, 1)
    panel.ui.stepsSpinBox.setValue(4)
    assert panel.ui.presetSelector.currentText == "Custom"
    assert panel.parameters.steps == 4


def test_a_run_shows_progress_and_preview_and_ends_in_a_shown_result(panel):
    ready(panel, "virtual-thorax")
    assert panel.panel.input.verdict["accepted"]
    assert "Taken for an upright frontal chest X-ray" in panel.ui.gateLabel.text
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
    assert seen[0][0].startswith("Generating from VirtualPatientCXR.png, about")
    assert seen[0][1] in (50, 100)
    assert panel.ui.applyButton.text == "Generate"
    node = panel.ui.resultSelector.currentNode()
    nodes = mrml.result_of(node)
    assert "SYNTHETIC" in node.GetName()
    assert node.GetNodeReference(mrml.FILM_REFERENCE) is panel.parameters.inputVolume
    assert node.GetAttribute("XRay2CTPA.BundleSource") == "virtual-thorax"
    assert "not the patient" in panel.ui.resultLabel.text
    assert "on this machine" in panel.ui.estimateLabel.text
    assert panel.slicer.leftovers() == []
    views = panel.slicer.app.layoutManager().views
    for name in (*mrml.PLANE_VIEWS, "3D 0"):
        assert views[name].texts() == ["SYNTHETIC"], name
    assert views[mrml.FILM_VIEW].texts() == []
    panel.grab("done")
    panel.ui.overlaySelector.setCurrentIndex(3)
    composite = panel.slicer.application.slices["Red"].GetSliceCompositeNode()
    assert composite.GetForegroundVolumeID() is None
    panel.ui.thresholdSlider.value = 0.6
    assert nodes.gradcam.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.6)
    panel.ui.windowSelector.setCurrentIndex(1)
    assert nodes.ctpa.GetDisplayNode().GetLevel() == -600.0


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
    panel.click("logButton")
    assert '"event": "error"' in panel.slicer.dialogs.shown[-1][1]
    assert panel.slicer.leftovers() == []
