"""Settings of a run, as flags of the core's command, and the three presets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.pipelines.bundle import PresetSteps

PREVIEW, STANDARD, REFERENCE, CUSTOM = PRESETS = ("Preview", "Standard", "Reference", "Custom")
#: Attribute of a result's nodes: the bundle as given for the run (a name, a folder or a Hub id).
BUNDLE_SOURCE_ATTRIBUTE = "XRay2CTPA.BundleSource"
FORCED_ATTRIBUTE = "XRay2CTPA.Forced"


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        bundle: name, folder or Hub id with revision.
        steps, samples, scheduler: None takes the bundle's.
        seed: 0 to 2**63 - 1.
        device: one of the core's DEVICES.
        precision: one of the core's PRECISIONS.
        force: go on where the input is no frontal chest radiograph.
    """

    bundle: str = DEFAULT_BUNDLE
    steps: int | None = None
    samples: int | None = None
    scheduler: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    force: bool = False

    def arguments(self) -> list[str]:
        """The corresponding flags of ``generate``."""
        flags = ["--bundle", self.bundle, "--seed", str(self.seed), "--device", self.device]
        flags += ["--precision", self.precision]
        for flag, value in (("--steps", self.steps), ("--samples", self.samples)):
            flags += [] if value is None else [flag, str(value)]
        flags += [] if self.scheduler is None else ["--scheduler", self.scheduler]
        return flags + (["--force"] if self.force else [])

    def attributes(self) -> dict[str, str]:
        """Attributes that a result's nodes need in addition to result.json, so that the run can be
        repeated."""
        return {BUNDLE_SOURCE_ATTRIBUTE: self.bundle, FORCED_ATTRIBUTE: "true" if self.force else "false"}


def settingsOf(node: Any, record: Mapping[str, Any]) -> RunSettings:
    """The settings that repeat the run that made the result node ``node`` with the record ``record``."""
    sampling = record["sampling"]
    return RunSettings(
        bundle=node.GetAttribute(BUNDLE_SOURCE_ATTRIBUTE) or record["bundle"]["name"],
        steps=sampling["steps"],
        samples=sampling["samples"],
        scheduler=sampling["scheduler"],
        seed=sampling["seed"],
        device=sampling["device"],
        precision=sampling["precision"],
        force=node.GetAttribute(FORCED_ATTRIBUTE) == "true",
    )


def presetNumbers(
    preset: str, steps: int, samples: int, measured: PresetSteps | None = None
) -> tuple[int, int]:
    """(steps, samples) of a preset for a bundle whose defaults are ``steps`` and ``samples``.

    The steps are those of the bundle's curve of quality against steps (``measured``). Without a curve,
    Preview takes a third of the steps and Reference five times as many. Preview takes one sample, Reference
    at least eight, whose spread shows the uncertainty.
    """
    if measured is None:
        measured = PresetSteps(max(1, round(steps / 3)), steps, 5 * steps)
    if preset == PREVIEW:
        return measured.preview, 1
    if preset == REFERENCE:
        return measured.reference, max(8, samples)
    return measured.standard, samples
