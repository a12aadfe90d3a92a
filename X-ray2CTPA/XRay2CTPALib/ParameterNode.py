"""The user's choices, kept in the scene."""

from typing import Annotated, Union

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from xray2ctpa_core.constants import DEFAULT_BUNDLE, DEVICES, PRECISIONS

from .Settings import PRESETS, STANDARD, RunSettings

#: Largest seed that a spin box holds.
LARGEST_SEED = 2**31 - 1


@parameterNodeWrapper
class XRay2CTPAParameterNode:
    """The parameters of the panel.

    inputVolume - the radiograph. The selector takes its types from this annotation: colour PNG and JPEG are
        vector volumes.
    bundle - what --bundle takes.
    outputFolder - where the files of results go as well; "": nowhere.
    preset, steps, samples, seed, device, precision, force - as in RunSettings; 0 steps or samples: not yet
        set.
    """

    # Slicer 5.10 supports no other notation of a union, and needs the None.
    inputVolume: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, None]  # noqa: UP007
    bundle: str = DEFAULT_BUNDLE
    outputFolder: str = ""
    preset: Annotated[str, Choice(list(PRESETS))] = STANDARD
    device: Annotated[str, Choice(list(DEVICES))] = DEVICES[0]
    precision: Annotated[str, Choice(list(PRECISIONS))] = PRECISIONS[0]
    steps: Annotated[int, WithinRange(0, 1000)] = 0
    samples: Annotated[int, WithinRange(0, 64)] = 0
    seed: Annotated[int, WithinRange(0, LARGEST_SEED)] = 0
    force: bool = False


def settingsFrom(parameters: XRay2CTPAParameterNode) -> RunSettings:
    """The settings of a run with these parameters."""
    return RunSettings(
        bundle=parameters.bundle,
        steps=parameters.steps or None,
        samples=parameters.samples or None,
        seed=parameters.seed,
        device=parameters.device,
        precision=parameters.precision,
        force=parameters.force,
    )
