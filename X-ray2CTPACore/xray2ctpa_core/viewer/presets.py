"""The presets of the page, which are those of its bundle."""

import functools
from typing import Any

from xray2ctpa_core.pipelines.bundle import PresetSteps, read_bundle_json
from xray2ctpa_core.pipelines.loading import resolve_bundle

#: Samples of the reference preset, whose spread shows the uncertainty.
_REFERENCE_SAMPLES = 8


@functools.cache
def presets(bundle: str) -> list[dict[str, Any]]:
    """Name, steps and samples of each preset of a bundle, the standard one second.

    Steps are those of the bundle's measured curve; without a curve, a third and five times its default.

    Args:
        bundle: name or folder.

    Raises:
        BundleError: there is none.
    """
    info = read_bundle_json(resolve_bundle(bundle))
    steps, samples = info.sampling.steps, info.sampling.samples
    measured = info.preset_steps or PresetSteps(max(1, round(steps / 3)), steps, 5 * steps)
    return [
        {"name": "Preview", "steps": measured.preview, "samples": 1},
        {"name": "Standard", "steps": measured.standard, "samples": samples},
        {"name": "Reference", "steps": measured.reference, "samples": max(_REFERENCE_SAMPLES, samples)},
    ]
