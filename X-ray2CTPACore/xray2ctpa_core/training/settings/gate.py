"""Settings of the steps that fit and measure the input gate."""

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.data.settings import Existing, Folders, FoldersOrNone, Rate, settings


@settings
class MeasureGateSettings:
    """Figures of the input gate on radiographs (whole, turned, cropped) and on oblique projections of CTs."""

    folders: FoldersOrNone = ()
    """Folders of upright, whole frontal radiographs."""
    cts: FoldersOrNone = ()
    """Folders of CTs (.nii.gz), which are projected straight and oblique."""
    bundle: str = DEFAULT_BUNDLE
    """Name or folder of the bundle whose lung locator is used."""


@settings
class MeasureOpacitiesSettings:
    """What a bundle's opacity reader reads of real radiographs with and without findings."""

    table: Existing = ""
    """CSV with a column file, relative to the table's folder."""
    column: str = "finding"
    """Its column with the findings."""
    none: str = "No Finding"
    """What it says of radiographs without findings."""
    bundle: str = DEFAULT_BUNDLE
    """Name or folder of the bundle whose lung locator and opacity reader are used."""


@settings
class HeartSideSettings:
    """Fit of the side on which the heart lies, for the gate's warning of mirrored radiographs."""

    fit: Folders = ()
    """Folders of upright frontal radiographs, which are fitted."""
    measure: FoldersOrNone = ()
    """Folders on which the rates of warnings are measured."""
    bundle: str = DEFAULT_BUNDLE
    """Name or folder of the bundle whose lung locator is used."""
    ridge: Rate = 0.1
    """Inverse of the L2 penalty."""


@settings
class CutEdgeSettings:
    """Fit of the edges at which lungs are cut off, for the gate's warning."""

    fit: FoldersOrNone = ()
    """Folders of whole, upright frontal radiographs, which are fitted; none measures the gate's weights."""
    measure: FoldersOrNone = ()
    """Folders on which the rates of warnings are measured."""
    bundle: str = DEFAULT_BUNDLE
    """Name or folder of the bundle whose lung locator is used."""
    penalty: Rate = 30.0
    """Penalty on the squares of the weights of standardised features."""
