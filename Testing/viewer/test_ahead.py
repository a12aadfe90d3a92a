"""Slices beside the one that is looked at are drawn in advance, and no slice is drawn twice."""

import asyncio
import gc
import weakref

import numpy as np
import pytest
from scenes import SHAPE, write_result

pytest.importorskip("trame_slicer")

from xray2ctpa_core.viewer import case, showing
from xray2ctpa_core.viewer.ahead import Ahead
from xray2ctpa_core.viewer.display import changed
from xray2ctpa_core.viewer.pictures import Pictures
from xray2ctpa_core.viewer.scene import RESULT_VIEWS, ResultScene
from xray2ctpa_core.viewer.tabs import Tabs


@pytest.fixture
def scene(tmp_path):
    folder = write_result(tmp_path / "result")
    made = ResultScene(folder, case.ShownRadiograph(np.zeros((60, 60), np.float32), "radiograph.png"))
    for name in RESULT_VIEWS:
        made.resize(name, 120, 120)
    made.go_to_slice("Red", 8)
    yield made
    made.close()


def slices(scene, ahead) -> list[int]:
    """The numbers of the axial slices that wait to be drawn, in their order."""
    found = []
    while ahead.is_near:
        name, position = ahead.next()
        assert name == "Red"
        height = scene.nodes.ctpa.GetSpacing()[2]
        found.append(scene.slice_of("Red")[0] + round((position[2] - scene.position[2]) / height))
    return found


def test_the_slices_scrolled_towards_come_first_and_beyond_the_volume_there_are_none(scene):
    ahead = Ahead(scene)
    ahead.touched = "Red"
    ahead.renew()
    assert slices(scene, ahead) == [9, 7, 10, 6, 11, 5, 12, 4]
    scene.scroll("Red", 1)
    ahead.renew()
    assert slices(scene, ahead) == [10, 11, 12, 13, 14, 15, 8, 7]
    scene.scroll("Red", -2)
    ahead.renew()
    assert slices(scene, ahead)[:3] == [6, 5, 4]
    assert scene.slice_of("Red") == (7, 16)
    scene.scroll("Red", 100)
    ahead.renew()
    assert set(slices(scene, ahead)) == {16, 15, 14}


def test_after_the_slices_beside_come_all_others_of_every_plane_the_touched_one_first(scene):
    ahead = Ahead(scene)
    ahead.touched = "Green"
    ahead.renew()
    while ahead.is_near:
        ahead.next()
    waiting = [ahead.next() for _number in range(24 + 16 + 20)]
    assert not ahead
    assert [name for name, _place in waiting] == ["Green"] * 24 + ["Red"] * 16 + ["Yellow"] * 20
    # By hand: voxels of 10 mm, 24 of them from front to back; slice 1, the last behind, is at -115 mm; and
    # slices 16, 8, 24 and 4 come first.
    assert [place[1] for _name, place in waiting[:4]] == pytest.approx([35.0, -45.0, 115.0, -85.0])
    assert sorted(place[1] for _name, place in waiting[:24]) == pytest.approx(list(range(-115, 116, 10)))
    ahead.renew()
    ahead.stop()
    assert not ahead


def test_in_a_comparison_the_views_of_a_slice_follow_one_another(tmp_path):
    scene = ResultScene(write_result(tmp_path / "result"), None, np.zeros(SHAPE, np.float32))
    scene.show(changed(scene.display, {"mode": "compare"}))
    ahead = Ahead(scene)
    ahead.renew()
    while ahead.is_near:
        ahead.next()
    assert [ahead.next()[0] for _number in range(4)] == ["Red", "RedTruth", "RedDifference", "Red"]
    scene.close()


def test_planes_are_cut_through_voxels_wherever_is_pointed(scene):
    """So there are as many pictures as slices; the crosshair stands where was pointed all the same."""
    scene.go_to((3.0, 3.0, 3.0))
    looks = scene.looks("Red")
    assert scene.position == (3.0, 3.0, 3.0)
    assert scene.go_to((3.0, 3.0, 7.0)) == set(), "voxels are 10 mm high: the same slice"
    assert scene.looks("Red") == looks
    assert scene.go_to((3.0, 3.0, 12.0)) == {"Red"}
    scene.scroll("Red", -1)
    assert scene.looks("Red") == looks


def test_a_plane_drawn_in_advance_is_what_it_shows_when_it_gets_there(scene):
    before = scene.draw("Red")
    position = scene.beside("Red", 5)
    advance, looks = scene.draw_at("Red", position), scene.looks("Red", position)
    assert np.array_equal(scene.draw("Red"), before), "it stays where it is"
    assert scene.looks("Red") != looks
    scene.scroll("Red", 5)
    assert scene.looks("Red") == looks
    assert np.array_equal(scene.draw("Red"), advance)
    assert not np.array_equal(advance, before), "the hot voxel lies in one of the two"


def test_what_changes_a_picture_changes_what_it_is_kept_by(scene):
    former = scene.looks("Red")
    assert scene.looks("3D") is None, "the rendering is always drawn anew"
    scene.scroll("Green", 2)
    assert scene.looks("Red") == former, "lines of the crosshair are no part of the picture"
    for change in (
        lambda: scene.zoom("Red", 1.5),
        lambda: scene.pan("Red", 0.2, 0.0),
        lambda: scene.resize("Red", 140, 120),
        lambda: scene.show(changed(scene.display, {"width": 300.0})),
        lambda: scene.show(changed(scene.display, {"slab_mm": 20.0})),
        lambda: scene.show(changed(scene.display, {"opacity": 0.1})),
        lambda: scene.scroll("Red", 1),
    ):
        change()
        assert scene.looks("Red") != former
        former = scene.looks("Red")


class Listener:
    """A tab that remembers the names of the views that it was shown."""

    def __init__(self):
        self.shown = []

    def tell(self, kind, content):
        pass

    def show(self, name, picture):
        self.shown.append(name)


async def until(happened) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.02)


def left_alone(tmp_path, then) -> None:
    """Opens the small result for one tab, asks for the axial plane, and goes on with ``then``."""

    async def visit() -> None:
        tabs, tab = Tabs(), Listener()
        tabs.add(tab)
        opened = showing.Showing(
            ResultScene(write_result(tmp_path / "result"), None), tabs, [], "virtual-thorax"
        )
        try:
            opened.do("resize", {"view": "Red", "x": 120, "y": 120}, tab)
            await then(opened, tab)
        finally:
            opened.close()

    asyncio.run(visit())


def test_a_page_that_is_left_alone_has_every_slice_and_a_jump_draws_nothing(tmp_path):
    async def then(opened, tab):
        await until(lambda: opened._pictures.kept == 16 + 24 + 20)
        await asyncio.sleep(0.2)
        assert opened._pictures.kept == 16 + 24 + 20, "each once"
        drawn, draw = [], opened.scene.draw
        opened.scene.draw = lambda name: drawn.append(name) or draw(name)
        before = tab.shown.count("Red")
        opened.do("slice", {"view": "Red", "number": 2}, tab)
        await until(lambda: tab.shown.count("Red") > before)
        assert "Red" not in drawn

    left_alone(tmp_path, then)


def test_a_closed_result_is_freed_without_a_garbage_collection(tmp_path):
    """The collector comes seldom: until then, each opened result would keep its volumes and pictures."""
    freed = []

    async def then(opened, tab):
        await until(lambda: "Red" in tab.shown)
        freed.extend([weakref.ref(opened), weakref.ref(opened.scene), weakref.ref(opened._pictures)])

    gc.disable()
    try:
        left_alone(tmp_path, then)
        assert [reference() for reference in freed] == [None, None, None]
    finally:
        gc.enable()


def test_what_has_no_room_is_not_drawn_in_advance(tmp_path, monkeypatch):
    monkeypatch.setattr(showing, "MAX_BYTES", 1)

    async def then(opened, tab):
        await until(lambda: opened._pictures.kept == 2)
        await asyncio.sleep(1.5)
        assert opened._pictures.kept == 2, "the shown slice, and the first that took all the room"

    left_alone(tmp_path, then)


def test_pictures_are_kept_as_long_as_there_is_room():
    pictures = Pictures(max_bytes=10)
    pictures.keep("a", b"1234")
    pictures.keep("b", b"5678")
    assert pictures.find("a") == b"1234"
    pictures.keep("c", b"90ab")
    assert pictures.find("b") is None, "the one that was longest not asked for goes"
    assert (pictures.find("a"), pictures.find("c")) == (b"1234", b"90ab")
    pictures.keep("a", b"12")
    pictures.keep("d", b"abcd")
    assert [pictures.find(name) for name in "acd"] == [b"12", b"90ab", b"abcd"]
