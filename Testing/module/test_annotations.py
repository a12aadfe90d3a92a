"""The word SYNTHETIC and the layouts, whoever opens what: start-up, scenes, views made later, Reload."""

import types

import pytest
import slicer
from scenes import radiograph_node, write_result

from xray2ctpa_core import mrml


@pytest.fixture
def started(app, monkeypatch):
    """The application after its start-up; the module's panel was never opened."""
    import XRay2CTPA
    from XRay2CTPALib import Annotations, Sample

    monkeypatch.setattr(Sample, "registerSampleData", lambda _thumbnail: None)
    XRay2CTPA.XRay2CTPA(types.SimpleNamespace())
    [startup] = app.app.startup
    startup()
    yield app
    Annotations.stopWatching()


def words(app):
    """View -> what is written in it, after the application has had its turn."""
    for _round in range(3):
        app.app.processEvents()
    return {name: view.texts() for name, view in app.app.layoutManager().views.items()}


def save_scene_with_result(app, folder):
    nodes = mrml.load_result(write_result(folder / "result"), app.scene, radiograph_node(app.scene))
    mrml.use_layout(app.scene)
    app.app.processEvents()
    mrml.show_result(nodes, app.application.logic)
    path = folder / "scene" / "case.mrml"
    path.parent.mkdir()
    for node in nodes.all():
        if node.IsA("vtkMRMLVolumeNode"):
            node.AddDefaultStorageNode()
            storage = node.GetStorageNode()
            storage.SetFileName(str(path.parent / f"{node.GetID()}.nrrd"))
            assert storage.WriteData(node)
    app.scene.SetURL(str(path))
    assert app.scene.Commit(str(path))
    return path


def test_a_saved_scene_opens_with_its_views_and_the_word_though_the_panel_was_never_opened(started, tmp_path):
    layout = started.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    for number in (mrml.LAYOUT_ID, mrml.COMPARISON_LAYOUT_ID):
        assert layout.IsLayoutDescription(number), "the start-up registers both"
    path = save_scene_with_result(started, tmp_path)
    started.scene.Clear(0)
    assert all(texts == [] for texts in words(started).values())
    layout.SetViewArrangement(0)
    started.scene.SetURL(str(path))
    started.scene.Import()
    assert layout.GetViewArrangement() == mrml.LAYOUT_ID
    shown = words(started)
    for name in (*mrml.PLANE_VIEWS, "3D 0"):
        assert shown[name] == ["SYNTHETIC"], name


def test_the_word_follows_whatever_anybody_shows(started, tmp_path):
    nodes = mrml.load_result(write_result(tmp_path / "result"), started.scene)
    assert words(started)["Red"] == []
    composite = started.application.slices["Red"].GetSliceCompositeNode()
    composite.SetForegroundVolumeID(nodes.gradcam.GetID())
    assert words(started)["Red"] == ["SYNTHETIC"]
    composite.SetForegroundVolumeID(None)
    assert words(started)["Red"] == []
    mrml.show_rendering(nodes, True)
    assert words(started)["3D 0"] == ["SYNTHETIC"]
    mrml.remove_result(nodes)
    assert words(started)["3D 0"] == []


def test_a_view_that_is_made_later_gets_the_word_too(started, tmp_path):
    nodes = mrml.load_result(write_result(tmp_path / "result"), started.scene)
    late = slicer.vtkMRMLSliceNode()
    late.SetSingletonTag("Late")
    late.SetLayoutName("Late")
    started.scene.AddNode(late)
    words(started)
    composite = started.application.slices["Late"].GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(nodes.ctpa.GetID())
    assert words(started)["Late"] == ["SYNTHETIC"]


def test_a_difference_from_the_truth_is_marked_and_the_truth_is_not(started, tmp_path):
    nodes = mrml.load_result(write_result(tmp_path / "result"), started.scene)
    comparison = mrml.add_comparison(nodes, slicer.util.arrayFromVolume(nodes.ctpa) * 0.5)
    red = started.application.slices["Red"].GetSliceCompositeNode()
    red.SetBackgroundVolumeID(comparison.difference.GetID())
    assert words(started)["Red"] == ["SYNTHETIC"]
    red.SetBackgroundVolumeID(comparison.truth.GetID())
    assert words(started)["Red"] == []


def test_a_removed_node_is_let_go_and_a_closed_scene_leaves_what_stays_in_it(started, tmp_path):
    from XRay2CTPALib import Annotations

    nodes = mrml.load_result(write_result(tmp_path / "result"), started.scene)
    rendering = nodes.ctpa.GetNthDisplayNode(1)
    watch, identifier = Annotations.watch(), rendering.GetID()
    assert identifier in watch._tags
    mrml.remove_result(nodes)
    assert identifier not in watch._tags
    mrml.load_result(write_result(tmp_path / "second"), started.scene)
    started.scene.Clear(0)
    assert all(started.scene.GetNodeByID(left) is not None for left in watch._tags)
    assert any("Layout" in left for left in watch._tags)
    again = mrml.load_result(write_result(tmp_path / "third"), started.scene)
    mrml.show_rendering(again, True)
    assert words(started)["3D 0"] == ["SYNTHETIC"]


def test_there_is_one_watch_and_a_stopped_one_leaves_nothing_in_the_views(started, tmp_path):
    from XRay2CTPALib import Annotations

    first = Annotations.watch()
    assert Annotations.watch() is first
    nodes = mrml.load_result(write_result(tmp_path / "result"), started.scene)
    started.application.slices["Red"].GetSliceCompositeNode().SetBackgroundVolumeID(nodes.ctpa.GetID())
    assert words(started)["Red"] == ["SYNTHETIC"]
    Annotations.stopWatching()
    assert all(texts == [] for texts in words(started).values())
    assert Annotations.watch() is not first
    assert words(started)["Red"] == ["SYNTHETIC"]
