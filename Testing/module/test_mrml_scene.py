"""A result's nodes together: references, folder, table, rendering, layout, views, saving, removing."""

import zipfile

import numpy as np
import pytest
import slicer
from scenes import (
    HOT_KJI,
    HOT_RAS,
    UNLIKE,
    add_second_opinion,
    application_scene,
    node_ids,
    picture,
    radiograph_node,
    write_result,
)

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import NOTICE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.record import record_rows
from xray2ctpa_core.wording import unreliable


@pytest.fixture
def app(monkeypatch):
    with application_scene() as application:
        monkeypatch.setattr(slicer, "mrmlScene", application.scene, raising=False)
        yield application


@pytest.fixture
def result(app, tmp_path):
    return mrml.load_result(write_result(tmp_path / "result"), app.scene, radiograph_node(app.scene))


def folder_names(scene, node):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    return hierarchy.GetItemName(parent)


def test_everything_of_one_run_lies_in_one_folder_that_says_synthetic(app, result, tmp_path):
    assert {folder_names(app.scene, node) for node in result.all()} == {"SYNTHETIC X-ray2CTPA (radiograph)"}
    second = mrml.load_result(write_result(tmp_path / "second"), app.scene)
    assert folder_names(app.scene, second.ctpa) != folder_names(app.scene, result.ctpa)


def test_nodes_are_named_after_the_radiographs_node_and_without_it_after_its_file(app, result, tmp_path):
    assert result.ctpa.GetName() == "SYNTHETIC CTPA (radiograph)"
    alone = mrml.load_result(write_result(tmp_path / "alone"), app.scene)
    assert alone.ctpa.GetName() == "SYNTHETIC CTPA (radiograph.png)"


def test_a_scene_bundle_opens_though_the_radiograph_is_named_oddly(app, tmp_path):
    radiograph = radiograph_node(app.scene, name='4: PA & <LAT> "x"\n/\u0442 {0} %s')
    nodes = mrml.load_result(write_result(tmp_path / "r", unreliable=UNLIKE), app.scene, radiograph)
    assert nodes.ctpa.GetName() == "SYNTHETIC CTPA (4: PA _ _LAT_ _x__/\u0442 {0} %s)"
    shown(app, nodes)
    app.scene.RemoveNode(radiograph)  # its own name alone would spoil the bundle: Slicer's matter
    assert app.scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        bundle.extractall(tmp_path / "scene")
    [saved] = (tmp_path / "scene").rglob("*.mrml")
    with application_scene() as fresh:
        fresh.scene.SetURL(str(saved))
        fresh.scene.SetRootDirectory(str(saved.parent))
        for _twice in range(2):  # the second time beside the first
            assert fresh.scene.Import()
        kind = "vtkMRMLScalarVolumeNode"
        count = fresh.scene.GetNumberOfNodesByClass(kind)
        volumes = [fresh.scene.GetNthNodeByClass(number, kind) for number in range(count)]
        first, second = [mrml.result_of(v) for v in volumes if v.GetAttribute(mrml.RECORD_ATTRIBUTE)]
        assert not {n.GetID() for n in first.all()} & {n.GetID() for n in second.all()}
        for opened in (first, second):
            assert unreliable(opened.record["pe"]) == UNLIKE
            assert opened.gradcam.GetAttribute(mrml.UNRELIABLE_ATTRIBUTE) == UNLIKE
            assert slicer.util.arrayFromVolume(opened.ctpa)[HOT_KJI] == 700
        mrml.remove_result(first)
        assert second.gradcam_label.GetDisplayNode().GetColorNode().GetColorName(3) == "high"


def test_the_folder_lies_in_the_study_of_the_radiograph(app, tmp_path):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    radiograph = radiograph_node(app.scene)
    hierarchy.SetItemParent(hierarchy.CreateItem(study, radiograph), study)
    nodes = mrml.load_result(write_result(tmp_path / "result"), app.scene, radiograph)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.ctpa))
    assert hierarchy.GetItemParent(folder) == study
    mrml.remove_result(nodes)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(radiograph)) == study


def test_the_volume_is_rendered_as_the_application_prefers(app, tmp_path):
    preferred = "vtkMRMLCPURayCastVolumeRenderingDisplayNode"
    nodes = mrml.load_result(write_result(tmp_path / "r"), app.scene, rendering_class=preferred)
    assert nodes.ctpa.GetNthDisplayNode(1).GetClassName() == preferred


def test_the_levels_become_a_segmentation_that_belongs_to_the_result(app, result, tmp_path):
    before = node_ids(app.scene)
    segmented = mrml.add_segmentation(result)
    segmentation = segmented.segmentation.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 1, "the one hot voxel is of the level high"
    segment = segmentation.GetNthSegment(0)
    assert segment.GetName() == "SYNTHETIC Grad-CAM high"
    assert segment.GetColor() == pytest.approx((0.75, 0.05, 0.15))
    bounds = [0.0] * 6
    segmented.segmentation.GetSegmentation().GetBounds(bounds)
    middle = [(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
    assert middle == pytest.approx(HOT_RAS, abs=1e-3)
    assert "never a diagnosis" in segmented.segmentation.GetAttribute("XRay2CTPA.Notice")
    assert folder_names(app.scene, segmented.segmentation) == "SYNTHETIC X-ray2CTPA (radiograph)"
    assert mrml.result_of(result.ctpa).segmentation is segmented.segmentation
    assert mrml.add_segmentation(mrml.result_of(result.ctpa)).segmentation is segmented.segmentation
    mrml.remove_result(mrml.result_of(result.ctpa))
    assert app.scene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is None
    assert node_ids(app.scene) < before


def test_a_scene_opens_with_its_views_where_only_the_start_up_has_registered_them(app, result, tmp_path):
    shown(app, result)
    saved = tmp_path / "scene.mrml"
    app.scene.SetURL(str(saved))
    assert app.scene.Commit(str(saved))
    with application_scene() as fresh:
        mrml.register_layouts(fresh.scene)
        layout = fresh.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        assert layout.GetViewArrangement() not in (mrml.LAYOUT_ID, mrml.COMPARISON_LAYOUT_ID)
        fresh.scene.SetURL(str(saved))
        fresh.scene.Import()
        assert layout.GetViewArrangement() == mrml.LAYOUT_ID
        assert layout.IsLayoutDescription(mrml.LAYOUT_ID)
        names = {fresh.layout.GetViewNodes().GetItemAsObject(n).GetLayoutName()
                 for n in range(fresh.layout.GetViewNodes().GetNumberOfItems())}  # fmt: skip
        assert {mrml.RADIOGRAPH_VIEW, "Red", "Green", "Yellow"} <= names


def test_the_table_holds_every_number_of_the_record(result):
    table = result.table
    rows = {table.GetCellText(row, 0): table.GetCellText(row, 1) for row in range(table.GetNumberOfRows())}
    assert rows["pe.probability"] == "0.25"
    assert rows["pe.per_sample"] == "[0.2, 0.3]"
    assert rows["bundle.trained_on"] == "12 virtual patients"
    assert rows["sampling.seconds.load"] == "1.0"
    assert "never a diagnosis" in rows["notice"]
    assert "SYNTHETIC" in table.GetName()


def test_a_result_is_found_again_from_its_ctpa_alone(app, result):
    again = mrml.result_of(result.ctpa)
    assert again.all() == result.all()
    assert again.record == result.record
    assert mrml.result_of(radiograph_node(app.scene, name="other")) is None
    assert mrml.result_of(None) is None


def test_extra_attributes_reach_every_node(app, tmp_path):
    folder = write_result(tmp_path / "result")
    nodes = mrml.load_result(folder, app.scene, attributes={"XRay2CTPA.BundleSource": "here"})
    assert {node.GetAttribute("XRay2CTPA.BundleSource") for node in nodes.all()} == {"here"}


def test_removing_a_result_leaves_the_scene_as_it_was(app, tmp_path):
    keeper = mrml.load_result(write_result(tmp_path / "keeper"), app.scene)
    assert mrml.result_of(keeper.ctpa) is not None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(app.scene)
    before, items = node_ids(app.scene), hierarchy.GetNumberOfItems()
    mrml.remove_result(mrml.load_result(write_result(tmp_path / "result"), app.scene))
    assert node_ids(app.scene) == before
    assert hierarchy.GetNumberOfItems() == items
    assert keeper.gradcam_label.GetDisplayNode().GetColorNode().GetColorName(3) == "high"
    mrml.remove_result(keeper)
    assert app.scene.GetSingletonNode(mrml.GRADCAM_COLOR_TAG, "vtkMRMLColorTableNode") is None


def test_the_sentences_leave_lists_of_names_to_the_table(result):
    bundle = result.record["bundle"] | {"trained_on": "CTs of 2 people (a-1, b-2): their tissue"}
    record = result.record | {"bundle": bundle}
    assert any(line.endswith("trained on CTs of 2 people: their tissue.") for line in mrml.sentences(record))
    assert ("bundle.trained_on", bundle["trained_on"]) in record_rows(record)


def test_the_sentences_rate_the_volume_and_never_the_patient(result):
    text = " ".join(mrml.sentences(result.record))
    assert "score 0.25 (not calibrated), below its operating point 0.50" in text
    assert "from 0.20 to 0.30" in text
    assert "not the patient" in text
    assert "demonstration" in text
    assert "The lungs reach" in text
    for word in ("positive", "negative", "patient has", "diagnosed"):
        assert word not in text.lower()


def test_without_a_score_no_sentence_speaks_of_one(result):
    pe = result.record["pe"] | {"probability": None, "per_sample": []}
    said = mrml.sentences(result.record | {"pe": pe})
    assert said[0].startswith("No PE score")
    assert said[1] == "This generated volume is a hypothesis, never a diagnosis."


def test_why_a_score_means_nothing_stands_in_every_node_and_after_the_score(app, tmp_path):
    loaded = mrml.load_result(write_result(tmp_path / "r", unreliable=UNLIKE), app.scene)
    nodes = mrml.add_segmentation(loaded)
    assert unreliable(nodes.record["pe"]) == UNLIKE
    assert len(nodes.all()) == 6
    for node in nodes.all():
        assert node.GetAttribute(mrml.UNRELIABLE_ATTRIBUTE) == UNLIKE
        assert node.GetDescription() == f"{NOTICE} {UNLIKE}"
    said = mrml.sentences(nodes.record)
    assert said[0].startswith("Model's PE score 0.25")
    assert said[1] == UNLIKE
    fine = mrml.load_result(write_result(tmp_path / "fine"), app.scene)
    assert unreliable(fine.record["pe"]) is None
    assert fine.ctpa.GetAttribute(mrml.UNRELIABLE_ATTRIBUTE) is None
    assert fine.ctpa.GetDescription() == NOTICE
    older = {name: value for name, value in fine.record["pe"].items() if name != "unreliable"}
    assert unreliable(older) is None


@pytest.mark.parametrize("name", ["ctpa", "gradcam", "gradcam_label", "spread"])
def test_a_display_node_that_was_removed_by_hand_comes_back_as_it_was(app, result, name):
    shown(app, result)
    node = getattr(result, name)
    before = display_state(node)
    count = node.GetNumberOfDisplayNodes()
    removed = node.GetVolumeDisplayNode().GetID()
    app.scene.RemoveNode(node.GetVolumeDisplayNode())
    assert app.scene.GetNodeByID(removed) is None
    mrml.show_window(result, "CTPA")
    mrml.show_overlay(result, app.logic, "gradcam_label")
    mrml.show_evidence_from(result, 0.25)
    assert display_state(node) == before
    assert node.GetNumberOfDisplayNodes() == count
    mrml.show_window(result, "lung")
    assert result.ctpa.GetDisplayNode().GetLevel() == -600.0
    mrml.show_evidence_from(result, 0.7)
    assert result.gradcam.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.7)


def display_state(node):
    display = node.GetVolumeDisplayNode()
    numbers = ("GetWindow", "GetLevel", "GetLowerThreshold", "GetApplyThreshold", "GetAutoWindowLevel")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        numbers = ()
    return display.GetColorNodeID(), [round(getattr(display, number)(), 3) for number in numbers]


def test_a_rendering_that_was_removed_by_hand_comes_back_when_it_is_asked_for(app, result):
    rendering = result.ctpa.GetNthDisplayNode(1)
    assert rendering.IsA("vtkMRMLVolumeRenderingDisplayNode")
    app.scene.RemoveNode(rendering)
    mrml.show_rendering(result, False)
    assert result.ctpa.GetNumberOfDisplayNodes() == 1
    mrml.show_rendering(result, True)
    assert result.ctpa.GetNthDisplayNode(1).GetVisibility() == 1
    assert result.ctpa.GetNthDisplayNode(1).GetVolumePropertyNode() is not None


def test_the_layout_shows_radiograph_three_planes_and_3d_side_by_side(app, result):
    mrml.use_layout(app.scene)
    layout = app.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == mrml.LAYOUT_ID
    for name in (mrml.RADIOGRAPH_VIEW, "Red", "Green", "Yellow"):
        assert app.scene.GetSingletonNode(name, "vtkMRMLSliceNode") is not None
    radiograph = app.scene.GetSingletonNode(mrml.RADIOGRAPH_VIEW, "vtkMRMLSliceNode")
    assert radiograph.GetViewGroup() == mrml.RADIOGRAPH_VIEW_GROUP
    mrml.use_layout(app.scene)  # a second time changes nothing
    assert layout.GetViewArrangement() == mrml.LAYOUT_ID


def shown(app, result, **options):
    mrml.use_layout(app.scene)
    app.show_views()
    mrml.show_result(result, app.logic, **options)
    return {name: logic.GetSliceCompositeNode() for name, logic in app.slices.items()}


def test_planes_show_the_ctpa_under_the_map_and_the_radiograph_stands_alone(app, result):
    composites = shown(app, result, evidence_opacity=0.4)
    for name in mrml.PLANE_VIEWS:
        assert composites[name].GetBackgroundVolumeID() == result.ctpa.GetID()
        assert composites[name].GetForegroundVolumeID() == result.gradcam.GetID()
        assert composites[name].GetForegroundOpacity() == pytest.approx(0.4)
        assert composites[name].GetLinkedControl() == 1
    radiograph = composites[mrml.RADIOGRAPH_VIEW]
    assert radiograph.GetBackgroundVolumeID() == result.ctpa.GetNodeReferenceID(mrml.RADIOGRAPH_REFERENCE)
    assert radiograph.GetForegroundVolumeID() is None
    assert radiograph.GetLinkedControl() == 0


def test_overlays_exchange_and_an_unknown_one_is_refused(app, result):
    composites = shown(app, result)
    mrml.show_overlay(result, app.logic, "gradcam_label", 0.7)
    assert composites["Red"].GetForegroundVolumeID() is None
    assert composites["Green"].GetLabelVolumeID() == result.gradcam_label.GetID()
    assert composites["Green"].GetLabelOpacity() == pytest.approx(0.7)
    mrml.show_overlay(result, app.logic, "spread", 0.5)
    assert composites["Yellow"].GetForegroundVolumeID() == result.spread.GetID()
    assert composites["Yellow"].GetLabelVolumeID() is None
    mrml.show_overlay(result, app.logic, "")
    assert composites["Red"].GetForegroundVolumeID() is None
    with pytest.raises(InputError, match="overlay 'other'"):
        mrml.show_overlay(result, app.logic, "other")


def upright_radiograph():
    """(120, 100) greys as a model reads them: a bright corner superior on the patient's right, a slope."""
    pixels = np.tile(np.linspace(0.2, 0.4, 100, dtype=np.float32), (120, 1))
    pixels[:40, :30] = 0.98
    return pixels


def stored_differently(scene, turn):
    """The node of ``upright_radiograph`` whose file stores it turned, which Slicer does not know of."""
    stored = (255 * turn(upright_radiograph())).astype(np.uint8)
    node = radiograph_node(scene, *stored.shape)
    slicer.util.arrayFromVolume(node)[:] = stored
    return node


TURNS = {
    "as stored": lambda a: a, "flipped": lambda a: a[:, ::-1], "half a turn": lambda a: a[::-1, ::-1],
    "upside down": lambda a: a[::-1], "across": lambda a: a.T, "a quarter": lambda a: a.T[::-1],
    "three quarters": lambda a: a.T[:, ::-1], "across and half": lambda a: a.T[::-1, ::-1],
    "inverted": lambda a: 1 - a,
}  # fmt: skip
HOT_PART = slice(80, 90), slice(60, 80)


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_second_opinions_map_lies_on_the_radiograph_however_its_file_stores_it(app, tmp_path, turn):
    radiograph = stored_differently(app.scene, turn)
    folder = add_second_opinion(write_result(tmp_path / "r"), upright_radiograph(), HOT_PART)
    nodes = mrml.load_result(folder, app.scene, radiograph)
    composites = shown(app, nodes)
    assert composites[mrml.RADIOGRAPH_VIEW].GetForegroundVolumeID() is None, "only where it is asked for"
    before = picture(app.slices[mrml.RADIOGRAPH_VIEW]).astype(int)
    mrml.show_overlay(nodes, app.logic, "radiograph_gradcam", 1.0)
    assert composites["Red"].GetForegroundVolumeID() is None
    changed = np.abs(picture(app.slices[mrml.RADIOGRAPH_VIEW]).astype(int) - before).max(axis=2) > 20
    mark = np.zeros((120, 100), np.uint8)
    mark[HOT_PART] = 255
    slicer.util.arrayFromVolume(radiograph)[:] = turn(mark) if turn(mark).max() == 255 else mark
    slicer.util.arrayFromVolumeModified(radiograph)
    mrml.show_overlay(nodes, app.logic, "")
    expected = picture(app.slices[mrml.RADIOGRAPH_VIEW])[..., 0] > 200
    for found, wanted in zip(np.nonzero(changed), np.nonzero(expected), strict=True):
        assert found.size > 100
        assert (found.min(), found.max()) == pytest.approx((wanted.min(), wanted.max()), abs=7)


def test_a_second_opinions_map_is_a_part_of_the_result(app, tmp_path):
    folder = add_second_opinion(write_result(tmp_path / "r"), upright_radiograph(), HOT_PART)
    before = node_ids(app.scene)
    nodes = mrml.load_result(folder, app.scene, stored_differently(app.scene, TURNS["as stored"]))
    drawn = nodes.radiograph_gradcam
    assert mrml.result_of(nodes.ctpa).all() == nodes.all()
    assert drawn in nodes.all()
    assert drawn.GetName() == "SYNTHETIC Grad-CAM on the radiograph (radiograph)"
    assert drawn.GetAttribute(mrml.NOTICE_ATTRIBUTE) == NOTICE
    assert drawn.GetDisplayNode().GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    mrml.show_evidence_from(nodes, 0.6)
    assert drawn.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.6)
    assert "can be laid over the radiograph" in " ".join(mrml.score_sentences(nodes.record))
    radiograph = nodes.ctpa.GetNodeReference(mrml.RADIOGRAPH_REFERENCE)
    mrml.remove_result(nodes)
    assert {app.scene.GetNodeByID(i) for i in node_ids(app.scene) - before} >= {radiograph}
    assert not [n for n in node_ids(app.scene) - before if "Volume" in n and n != radiograph.GetID()
                and "Display" not in n]  # fmt: skip
    (folder / "preview.png").unlink()
    with pytest.raises(InputError, match="Expected a preview"):
        mrml.load_result(folder, app.scene, radiograph)
    assert mrml.load_result(folder, app.scene).radiograph_gradcam is not None, "it stays before the volume"


def test_the_radiograph_is_upright_with_the_patients_right_on_the_left(app, result):
    shown(app, result)
    image = picture(app.slices[mrml.RADIOGRAPH_VIEW])[..., 0].astype(int)
    rows, columns = np.nonzero(image > 200)
    assert rows.size > 1000
    assert rows.mean() < image.shape[0] / 2, "the first rows of the radiograph are superior: on top"
    assert columns.mean() < image.shape[1] / 2, "its first columns are the patient's right: on the left"


def test_a_radiograph_whose_axes_are_turned_in_the_header_is_shown_upright_too(app, tmp_path):
    radiograph = radiograph_node(app.scene)
    array = slicer.util.arrayFromVolume(radiograph)
    array[:] = array[:, ::-1, ::-1].copy()  # stored from the other end, and the header says so
    radiograph.SetIJKToRASDirections(1, 0, 0, 0, 1, 0, 0, 0, 1)
    result = mrml.load_result(write_result(tmp_path / "result"), app.scene, radiograph)
    shown(app, result)
    image = picture(app.slices[mrml.RADIOGRAPH_VIEW])[..., 0].astype(int)
    rows, columns = np.nonzero(image > 200)
    assert rows.mean() < image.shape[0] / 2
    assert columns.mean() < image.shape[1] / 2


def test_a_radiograph_of_greys_is_upright_and_lies_in_front_of_the_volumes_middle(app, tmp_path):
    pixels = np.full((120, 100), 0.2, np.float32)
    pixels[:40, :30] = 1.0  # superior, on the patient's right
    radiograph = mrml.add_radiograph(app.scene, pixels, "radiograph", 3.0, (30.0, 20.0))
    result = mrml.load_result(write_result(tmp_path / "result"), app.scene, radiograph)
    shown(app, result)
    rows, columns = np.nonzero(picture(app.slices[mrml.RADIOGRAPH_VIEW])[..., 0] > 200)
    assert rows.mean() < 200 > columns.mean()
    # By hand: the first pixel lies 20 pixels to the right of the middle and 30 above it, 3 mm each.
    assert radiograph.GetOrigin() == pytest.approx((60.0, 0.0, 90.0))


def test_a_comparison_lies_on_the_results_grid(app, result):
    truth = np.zeros_like(slicer.util.arrayFromVolume(result.ctpa))
    comparison = mrml.add_comparison(result, truth)
    difference = slicer.util.arrayFromVolume(comparison.difference)
    assert np.array_equal(difference, slicer.util.arrayFromVolume(result.ctpa))
    assert comparison.difference.GetOrigin() == result.ctpa.GetOrigin()
    assert "SYNTHETIC" in comparison.difference.GetName()
    colours = comparison.difference.GetDisplayNode().GetColorNode()
    red, _green, blue, _opacity = colours.GetLookupTable().GetTableValue(254)
    assert red > blue, "more than in truth is red"
    with pytest.raises(InputError, match="Expected a truth of"):
        mrml.add_comparison(result, truth[1:])


def true_ctpa(scene, result, shift_mm=0.0):
    """A CTPA of twice the voxels a side that says 100 HU everywhere, and lies ``shift_mm`` to the right."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "true")
    shape = slicer.util.arrayFromVolume(result.ctpa).shape
    slicer.util.updateVolumeFromArray(node, np.full([2 * side for side in shape], 100, np.int16))
    node.CopyOrientation(result.ctpa)
    node.SetSpacing(*(side / 2 for side in result.ctpa.GetSpacing()))
    right, anterior, superior = node.GetOrigin()
    node.SetOrigin(right + shift_mm, anterior, superior)
    return node


def test_a_true_ctpa_is_brought_onto_the_results_grid_and_what_it_lacks_has_no_difference(app, result):
    before = node_ids(app.scene)
    truth = true_ctpa(app.scene, result, shift_mm=-50.0)  # i runs to the left: the first 5 columns lack it
    array = mrml.truth_on_grid(truth, result)
    assert array.shape == slicer.util.arrayFromVolume(result.ctpa).shape
    assert np.isnan(array[:, :, :5]).all()
    assert (array[:, :, 5:19] == 100).all()
    mrml.add_comparison(result, array)
    compared = mrml.result_of(result.ctpa)
    difference = slicer.util.arrayFromVolume(compared.difference)
    assert (difference[:, :, :5] == 0).all()
    assert difference[HOT_KJI] == 700 - 100
    assert difference[0, 0, 10] == -1000 - 100
    mean, absolute = mrml.mean_difference(compared)
    assert mean < 0 < absolute
    assert (slicer.util.arrayFromVolume(compared.truth)[:, :, :5] == -1000).all()
    app.scene.RemoveNode(truth)
    mrml.remove_result(compared)
    assert node_ids(app.scene) < before, "the comparison goes with the result, its colours too"


def test_a_transform_of_the_true_ctpa_counts(app, result):
    truth = true_ctpa(app.scene, result, shift_mm=-50.0)
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = 50.0  # back again
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    truth.SetAndObserveTransformNodeID(transform.GetID())
    assert (mrml.truth_on_grid(truth, result)[:, :, :19] == 100).all()
    matrix[0, 3] = 5000.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    with pytest.raises(InputError, match="overlaps the generated one"):
        mrml.truth_on_grid(truth, result)


def test_the_comparison_layout_has_three_views_a_plane(app, result):
    mrml.add_comparison(result, np.zeros_like(slicer.util.arrayFromVolume(result.ctpa)))
    compared = mrml.result_of(result.ctpa)
    mrml.use_layout(app.scene, mrml.COMPARISON_LAYOUT_ID)
    app.show_views()
    mrml.show_result(result, app.logic, layout_id=mrml.COMPARISON_LAYOUT_ID)
    mrml.show_comparison(mrml.Comparison(compared.truth, compared.difference), compared, app.logic)
    shown_in = {n: app.slices[n].GetSliceCompositeNode().GetBackgroundVolumeID() for n in app.slices}
    for plane in mrml.PLANE_VIEWS:
        assert shown_in[plane] == result.ctpa.GetID()
        assert shown_in[f"{plane}Truth"] == compared.truth.GetID()
        assert shown_in[f"{plane}Difference"] == compared.difference.GetID()


def test_the_hottest_place_is_found_in_mm_and_all_planes_go_there(app, result):
    shown(app, result)
    assert mrml.hottest_position(result) == pytest.approx(HOT_RAS, abs=1e-3)
    radiograph_offset = app.slices[mrml.RADIOGRAPH_VIEW].GetSliceOffset()
    assert mrml.go_to_hottest(result)
    for name, axis in (("Yellow", 0), ("Green", 1), ("Red", 2)):
        place = app.slices[name].GetSliceNode().GetSliceToRAS()
        assert place.GetElement(axis, 3) == pytest.approx(HOT_RAS[axis], abs=1e-3)
    assert app.slices[mrml.RADIOGRAPH_VIEW].GetSliceOffset() == radiograph_offset


def test_the_hot_voxel_is_coloured_on_the_patients_left_in_front(app, result):
    shown(app, result, evidence_opacity=1.0)
    mrml.go_to_hottest(result)
    image = picture(app.slices["Red"]).astype(int)
    rows, columns = np.nonzero(np.ptp(image, axis=2) > 60)
    assert rows.size > 20, "the hot voxel is seen in colour"
    assert columns.mean() > image.shape[1] / 2, "the patient's left is on the right of an axial plane"
    assert rows.mean() < image.shape[0] / 2, "anterior is on top"
    mrml.show_evidence_from(result, 0.95)
    assert (np.ptp(picture(app.slices["Red"]).astype(int), axis=2) > 60).sum() == 0


def test_a_map_without_evidence_has_no_hottest_place(app, result):
    slicer.util.arrayFromVolume(result.gradcam)[:] *= 0.2  # below the lowest level
    assert mrml.hottest_position(result) is None
    assert not mrml.go_to_hottest(result)


def test_windows_by_name(result):
    mrml.show_window(result, "lung")
    assert result.ctpa.GetDisplayNode().GetLevel() == -600.0
    with pytest.raises(InputError, match="'bone'"):
        mrml.show_window(result, "bone")


def test_the_rendering_is_off_until_it_is_shown_and_hides_lung_but_not_contrast(app, result):
    display = result.ctpa.GetNthDisplayNode(1)
    assert display.IsA("vtkMRMLVolumeRenderingDisplayNode")
    assert not display.GetVisibility()
    mrml.show_rendering(result, True)
    assert display.GetVisibility()
    opacity = display.GetVolumePropertyNode().GetScalarOpacity()
    assert opacity.GetValue(-1000.0) == 0.0
    assert opacity.GetValue(300.0) > 10 * opacity.GetValue(-700.0) > 0


def test_a_saved_and_loaded_scene_keeps_the_result(app, result, tmp_path):
    mrb, folder = tmp_path / "case.mrb", tmp_path / "unpacked"
    assert app.scene.WriteToMRB(str(mrb))
    folder.mkdir()
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(folder))
    cache.SetMRMLScene(app.scene)
    app.scene.SetCacheManager(cache)
    data = slicer.vtkDataIOManager()
    data.SetCacheManager(cache)
    app.scene.SetDataIOManager(data)
    voxels = slicer.util.arrayFromVolume(result.ctpa).copy()
    app.scene.Clear(0)
    assert app.scene.ReadFromMRB(str(mrb), True)
    node = app.scene.GetFirstNodeByName("SYNTHETIC CTPA (radiograph)")
    again = mrml.result_of(node)
    assert np.array_equal(slicer.util.arrayFromVolume(again.ctpa), voxels)
    assert again.record["sampling"]["seed"] == 42
    assert {n.GetAttribute("XRay2CTPA.Seed") for n in again.all()} == {"42"}
    assert again.gradcam_label.GetDisplayNode().GetColorNode().GetColorName(3) == "high"
    assert again.table.GetNumberOfRows() == result.table.GetNumberOfRows() > 20
    assert node.GetNodeReference(mrml.RADIOGRAPH_REFERENCE).GetName() == "radiograph"
    assert folder_names(app.scene, again.gradcam) == "SYNTHETIC X-ray2CTPA (radiograph)"
    assert mrml.hottest_position(again) == pytest.approx(HOT_RAS, abs=1e-3)
