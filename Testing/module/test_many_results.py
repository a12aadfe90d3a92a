"""Many results in a row in the panel: nodes, views, observers and memory."""

import gc
import itertools
from collections import Counter

import psutil
import pytest
from scenes import radiograph_node, write_result

from xray2ctpa_core import mrml

#: MB that the process may grow by in 90 results that are removed; one of them that stayed takes 2.
GROWTH_MB = 40


@pytest.fixture
def one_more(panel, tmp_path):
    """Adds another result of one radiograph and shows it, as the end of a run does."""
    radiograph = radiograph_node(panel.slicer.scene, name="PA")
    folder = write_result(tmp_path / "result")
    panel.slicer.app.processEvents()

    def add():
        nodes = mrml.load_result(folder, panel.slicer.scene, radiograph)
        panel.panel.result.show(nodes)
        panel.panel.update()
        panel.slicer.app.processEvents()
        return nodes

    return add


def classes(scene):
    return Counter(scene.GetNthNode(n).GetClassName() for n in range(scene.GetNumberOfNodes()))


def actors(panel):
    """Number of props in each view."""
    views = panel.slicer.app.layoutManager().views
    return {name: view._renderer.GetViewProps().GetNumberOfItems() for name, view in views.items()}


def observed(panel):
    """IDs of the nodes that the watch of the views observes."""
    return set(panel.annotations.watch()._tags)


def test_every_result_of_one_radiograph_adds_the_same_nodes_and_is_removed_alone(panel, one_more):
    scene, counts, results, drawn = panel.slicer.scene, [], [], []
    for _round in range(6):
        results.append(one_more())
        counts.append(classes(scene))
        drawn.append(actors(panel))
    steps = [later - former for former, later in itertools.pairwise(counts)]
    assert all(step == steps[0] for step in steps)
    assert sum(steps[0].values()) == 12
    assert all(count == drawn[0] for count in drawn), "a view shows one result"
    assert panel.ui.resultSelector.currentNode() is results[-1].ctpa
    for former, count in zip(results[:0:-1], counts[-2::-1], strict=True):
        assert panel.ui.resultSelector.currentNode() is former.ctpa
        panel.click("removeResultButton")
        panel.slicer.app.processEvents()
        assert classes(scene) == count
    assert mrml.result_of(results[0].ctpa) is not None


@pytest.mark.slow
def test_a_hundred_results_in_a_row_leave_nodes_views_observers_and_memory_as_they_were(panel, one_more):
    scene, process = panel.slicer.scene, psutil.Process()
    one_more()
    states = []
    for number in range(100):
        one_more()
        panel.click("removeResultButton")
        if number in (9, 99):
            gc.collect()
            rss = process.memory_info().rss / 2**20
            states.append((classes(scene), actors(panel), observed(panel), rss))
    (nodes, props, watched, begin), (*after, end) = states
    assert after == [nodes, props, watched]
    assert set(props.values()) == {1}
    assert end - begin < GROWTH_MB
