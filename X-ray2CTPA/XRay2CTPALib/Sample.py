"""The radiograph that comes with the core: of a virtual patient that was not used in training."""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .CorePath import CORE_PACKAGE, makeCoreImportable

CATEGORY = "X-ray2CTPA"
NAME = "X-ray2CTPA virtual patient"
NODE_NAME = "VirtualPatientCXR"
SHA256 = "bd77360e23a8872fbf700984b96aa1140f7a71dc8fc30aff037658566e9c62a7"


def sampleFile() -> Path:
    """The radiograph, a PNG."""
    return makeCoreImportable() / CORE_PACKAGE / "samples" / "demo-patient-cxr.png"


def loadSample() -> Any:
    """Loads the radiograph as a node; the network is not used."""
    return slicer.util.loadVolume(str(sampleFile()), {"singleFile": True, "name": NODE_NAME})


def registerSampleData(thumbnail: str) -> None:
    """Adds the radiograph to Sample Data; from Slicer 5.12 on, its category has a title of its own."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("X-ray2CTPA"))
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=thumbnail,
        uris=sampleFile().as_uri(),
        fileNames="VirtualPatientCXR.png",
        nodeNames=NODE_NAME,
        checksums=f"SHA256:{SHA256}",
        loadFileProperties={"singleFile": True},
    )
