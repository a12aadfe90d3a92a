"""What one radiograph gives."""

from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.pipelines.second_opinion import SecondOpinion
from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume


@dataclass(frozen=True)
class XRay2CTPAResult:
    """Everything that a call of the pipeline computes.

    Attributes:
        ctpa: Volume, float32 HU: the first sample, the same whatever K.
        gradcam: Volume, float32 in 0..1, same grid; of the first sample. 1 stands for the bundle's full heat,
            or for the volume's own strongest where the bundle has none. All 0 without classifier.
        spread: Volume, float32 HU standard deviation over samples; None for one sample.
        pe_probability: mean of per_sample, calibrated as the bundle says; None for a bundle without
            classifier.
        per_sample: probability of each sample; empty without classifier.
        consistency: {"frontal_correlation": -1..1} of the volume's projection with the radiograph.
        gate: the judgement of the radiograph; full marks where the caller gave the frame.
        radiograph: as it was read: given greys, or turned back where they were inverted.
        frame: the radiograph's square that the volume corresponds to.
        geometry_source: where the volume's size in mm comes from.
        stage_seconds: seconds by stage.
        samples: (K, D, H, W) float32 HU, on request.
        second_opinion: PE from the radiograph alone; None of a bundle that carries no prior.
        notes: what was done otherwise than asked, as sentences: for lack of memory.
    """

    ctpa: Volume
    gradcam: Volume
    spread: Volume | None
    pe_probability: float | None
    per_sample: tuple[float, ...]
    consistency: dict[str, float]
    gate: GateReport
    radiograph: Radiograph
    frame: FrontalFrame
    geometry_source: str
    stage_seconds: dict[str, float]
    samples: np.ndarray | None = None
    second_opinion: SecondOpinion | None = None
    notes: tuple[str, ...] = ()
