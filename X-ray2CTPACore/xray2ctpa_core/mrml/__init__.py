"""Converts a result folder to MRML nodes and a layout of views, in Slicer and, through slicer-core, outside
it.

Imports slicer and vtk only (no Qt, no torch): the Slicer module and the page of ``xray2ctpa view``
show the same nodes. Files are NIfTI; Slicer's own reader turns them into RAS (IJKToRAS, mm). The nodes do
not depend on the files, which may be in a temporary folder. ``record`` reads result.json, ``result`` finds a
result's nodes in a scene, ``nodes`` adds and removes them, ``display`` sets their display, ``views`` the
layout, ``comparison`` compares them with a true CTPA.
"""

from xray2ctpa_core.mrml.comparison import (
    DIFFERENCE_VIEWS,
    TRUTH_VIEWS,
    Comparison,
    add_comparison,
    mean_difference,
    show_comparison,
    truth_on_grid,
)
from xray2ctpa_core.mrml.display import (
    ANNOTATION_COLOUR,
    GRADCAM_COLOR_TAG,
    RENDERING_CLASS,
    WINDOWS,
    corner_text,
    show_evidence_from,
    show_rendering,
    show_window,
    synthetic_annotation,
)
from xray2ctpa_core.mrml.nodes import add_segmentation, load_result, remove_result, remove_with_displays
from xray2ctpa_core.mrml.radiograph import add_radiograph
from xray2ctpa_core.mrml.record import UNRELIABLE_ATTRIBUTE, provenance, score_sentences, sentences
from xray2ctpa_core.mrml.result import (
    NOTICE_ATTRIBUTE,
    RADIOGRAPH_REFERENCE,
    RECORD_ATTRIBUTE,
    ResultNodes,
    result_of,
)
from xray2ctpa_core.mrml.views import (
    COMPARISON_LAYOUT_ID,
    LAYOUT_ID,
    OVERLAYS,
    PLANE_VIEWS,
    RADIOGRAPH_VIEW,
    RADIOGRAPH_VIEW_GROUP,
    go_to_hottest,
    hottest_position,
    register_layouts,
    show_overlay,
    show_radiograph,
    show_result,
    use_layout,
)

__all__ = [
    "ANNOTATION_COLOUR",
    "COMPARISON_LAYOUT_ID",
    "DIFFERENCE_VIEWS",
    "GRADCAM_COLOR_TAG",
    "LAYOUT_ID",
    "NOTICE_ATTRIBUTE",
    "OVERLAYS",
    "PLANE_VIEWS",
    "RADIOGRAPH_REFERENCE",
    "RADIOGRAPH_VIEW",
    "RADIOGRAPH_VIEW_GROUP",
    "RECORD_ATTRIBUTE",
    "RENDERING_CLASS",
    "TRUTH_VIEWS",
    "UNRELIABLE_ATTRIBUTE",
    "WINDOWS",
    "Comparison",
    "ResultNodes",
    "add_comparison",
    "add_radiograph",
    "add_segmentation",
    "corner_text",
    "go_to_hottest",
    "hottest_position",
    "load_result",
    "mean_difference",
    "provenance",
    "register_layouts",
    "remove_result",
    "remove_with_displays",
    "result_of",
    "score_sentences",
    "sentences",
    "show_comparison",
    "show_evidence_from",
    "show_overlay",
    "show_radiograph",
    "show_rendering",
    "show_result",
    "show_window",
    "synthetic_annotation",
    "truth_on_grid",
    "use_layout",
]
