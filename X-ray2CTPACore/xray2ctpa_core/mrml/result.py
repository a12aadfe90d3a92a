"""The nodes of one result, and how they are found in a saved scene."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import slicer

from xray2ctpa_core.constants import RESULT_SCHEMA_VERSION

#: Attribute of the CTPA with the whole result.json, and its references to the other nodes of the result.
RECORD_ATTRIBUTE = "XRay2CTPA.Record"
#: Attribute of every generated volume with its description.
NOTICE_ATTRIBUTE = "XRay2CTPA.Notice"
REFERENCES = {
    "gradcam": "XRay2CTPA.GradCAM",
    "gradcam_label": "XRay2CTPA.GradCAMLabel",
    "spread": "XRay2CTPA.Spread",
    "radiograph_gradcam": "XRay2CTPA.RadiographGradCAM",
    "table": "XRay2CTPA.Table",
    "segmentation": "XRay2CTPA.Segmentation",
    "truth": "XRay2CTPA.Truth",
    "difference": "XRay2CTPA.Difference",
}
#: Reference of the CTPA to the node of its radiograph.
RADIOGRAPH_REFERENCE = "XRay2CTPA.Radiograph"


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one result, all in the scene; the volumes on one grid, but for radiograph_gradcam.

    Attributes:
        ctpa: vtkMRMLScalarVolumeNode, HU; refers to the others.
        gradcam: vtkMRMLScalarVolumeNode, 0..1, shown from the lowest label's threshold upwards.
        gradcam_label: vtkMRMLLabelMapVolumeNode, 0 and 1..3 = low, medium, high.
        spread: vtkMRMLScalarVolumeNode, standard deviation in HU, or None for a single sample.
        table: vtkMRMLTableNode, the case's numbers as text.
        record: the content of result.json.
        radiograph_gradcam: vtkMRMLScalarVolumeNode, 0..1, on the radiograph: Grad-CAM of the second opinion;
            None without one.
        segmentation: vtkMRMLSegmentationNode of the Grad-CAM levels, None until ``add_segmentation``.
        truth, difference: of a comparison with a true CTPA, None until ``add_comparison``.
    """

    ctpa: Any
    gradcam: Any
    gradcam_label: Any
    spread: Any | None
    table: Any
    record: Mapping[str, Any]
    radiograph_gradcam: Any | None = None
    segmentation: Any | None = None
    truth: Any | None = None
    difference: Any | None = None

    def all(self) -> list[Any]:
        """All existing nodes, the CTPA first."""
        nodes = (
            *(self.ctpa, self.gradcam, self.gradcam_label, self.spread, self.table),
            *(self.radiograph_gradcam, self.segmentation, self.truth, self.difference),
        )
        return [node for node in nodes if node is not None]


def result_of(node: Any) -> ResultNodes | None:
    """The result to which a CTPA node in a scene belongs, also after saving and loading; None if it belongs
    to none, or if its record or a map was removed or changed by hand."""
    text = node.GetAttribute(RECORD_ATTRIBUTE) if node is not None else None
    if text is None:
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("schema_version") != RESULT_SCHEMA_VERSION:
        return None
    parts = {name: node.GetNodeReference(role) for name, role in REFERENCES.items()}
    if parts["gradcam"] is None or parts["gradcam_label"] is None:
        return None
    return ResultNodes(ctpa=node, **parts, record=record)


def refer(nodes: ResultNodes, radiograph: Any) -> None:
    """Makes the CTPA refer to the result's other nodes, so that they are found in a saved scene."""
    nodes.ctpa.SetAttribute(RECORD_ATTRIBUTE, json.dumps(nodes.record))
    for name, role in REFERENCES.items():
        node = getattr(nodes, name)
        nodes.ctpa.SetNodeReferenceID(role, node.GetID() if node is not None else None)
    if radiograph is not None:
        nodes.ctpa.SetNodeReferenceID(RADIOGRAPH_REFERENCE, radiograph.GetID())


def refer_to_comparison(nodes: ResultNodes, truth: Any, difference: Any) -> None:
    """Makes the nodes of a comparison part of the result, with which they are found and removed."""
    for role, node in (("truth", truth), ("difference", difference)):
        nodes.ctpa.SetNodeReferenceID(REFERENCES[role], node.GetID())
        put_beside(node, nodes.ctpa)


def put_beside(node: Any, ctpa: Any) -> None:
    """Moves ``node`` into the subject-hierarchy folder of ``ctpa``."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(ctpa.GetScene())
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(ctpa))
    hierarchy.SetItemParent(hierarchy.CreateItem(folder, node), folder)
