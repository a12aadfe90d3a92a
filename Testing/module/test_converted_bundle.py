"""The panel generates with a converted bundle: whole radiograph, no atlas, perhaps no PE classifier."""

import numpy as np
import pytest
import slicer
from panels import OpenPanel
from PIL import Image
from published_system import CONFIGURATIONS, converted_bundle, three_radiographs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["whole", "without classifier"])
def test_a_converted_bundle_generates_in_the_panel_and_in_its_batch(app, converted, tmp_path, kind):
    panel = OpenPanel(app)
    try:
        panel.parameters.bundle = str(converted[kind])
        panel.parameters.force = True
        panel.click("sampleButton")
        panel.until(lambda: panel.panel.input.verdict is not None)
        panel.parameters.steps, panel.parameters.samples = 2, 2
        panel.click("applyButton")
        job = panel.logic.job
        panel.until(lambda: not panel.logic.isRunning)
        assert [failure.text() for failure in job.failures] == []
        nodes = panel.panel.result.current()
        assert nodes.ctpa.GetImageData().GetDimensions() == (64, 64, 16)
        has_score = kind == "whole"
        assert ("no PE classifier" in panel.ui.scoreLabel.text) != has_score
        assert ("no PE classifier" in panel.ui.triageLabel.text) != has_score
        assert panel.ui.triageStepLabel.text == "Wells 0. Next: measure D-dimer."
        panel.click("segmentationButton")
        panel.ui.overlaySelector.setCurrentIndex(2)  # the spread
        if not has_score:
            panel.click("hottestButton")
            assert "no slice is hottest" in app.dialogs.shown[-1][1]
            panel.grab("without-classifier")
        panel.logic.batch.addNodes([panel.parameters.inputVolume])
        panel.parameters.outputFolder = str(tmp_path)
        panel.panel.update()
        panel.click("batchStartButton")
        panel.until(lambda: not panel.logic.isRunning)
        assert panel.ui.batchTable.item(0, 1).text().startswith("complete")
        assert (panel.ui.batchTable.item(0, 2).text() != "") == has_score
    finally:
        panel.close()


def loaded(file, folder):
    """The radiograph as a node; JPEG, which slicer-core does not read, by way of a PNG."""
    if file.suffix == ".jpg":
        with Image.open(file) as image:
            file = folder / f"{file.stem}.png"
            image.convert("L").save(file)
    return slicer.util.loadVolume(str(file))


@pytest.mark.real
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["paper", "narrow", "two-levels"])
def test_three_real_radiographs_become_three_volumes_in_the_logic(app, configuration, real_data, tmp_path):
    import XRay2CTPA

    bundle = converted_bundle(tmp_path / "made", **configuration)
    nodes = [loaded(file, tmp_path) for file in three_radiographs(real_data)]
    logic = XRay2CTPA.XRay2CTPALogic()
    made = logic.process(nodes, bundle=str(bundle), steps=2, device="cpu", force=True)
    volumes = [slicer.util.arrayFromVolume(result.ctpa) for result in made]
    assert [volume.shape for volume in volumes] == [(16, 64, 64)] * 3
    assert not np.array_equal(volumes[0], volumes[1])
    assert not np.array_equal(volumes[1], volumes[2])
