"""The result for one radiograph."""

from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.pipelines.second_opinion import SecondOpinion
from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume


@dataclass(frozen=True)
class XRay2CTPAResult:
    """The output of a call of the pipeline.

    Attributes:
        ctpa: Volume, float32 HU: the first sample, which does not depend on K.
        gradcam: Volume, float32 in 0..1, same grid; of the first sample. 1 is the bundle's full heat or, if
            the bundle has none, the volume's own maximum. All 0 without classifier.
        spread: Volume, float32 HU standard deviation over samples; None for one sample.
        pe_probability: mean of per_sample, with the bundle's calibration; None for a bundle without
            classifier.
        per_sample: probability of each sample; empty without classifier.
        consistency: {"frontal_correlation": -1..1} of the volume's projection with the radiograph.
        gate: the input gate's report on the radiograph; without doubts if the caller gave the frame.
        radiograph: as it was read, with inverted greys corrected.
        frame: the radiograph's square that the volume corresponds to.
        geometry_source: source of the volume's size in mm.
        stage_seconds: seconds by stage.
        samples: (K, D, H, W) float32 HU, on request.
        second_opinion: PE from the radiograph alone; None for a bundle without a prior.
        radiograph_gradcam: Volume, float32 in 0..1: Grad-CAM of the second opinion on the whole radiograph,
            in at most MAP_PIXELS a side, one coronal slice in front of the middle of ``ctpa``; None without a
            second opinion, and for encoders without a layer of maps (transformers).
        pe_unreliable: sentence why PE score and Grad-CAM mean nothing for this radiograph: it differs from
            those of training, or the gate refused it; None where neither holds.
        notes: sentences on the volume: what is unusual of the radiograph, and deviations from what was
            requested, because of a lack of memory.
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
    radiograph_gradcam: Volume | None = None
    pe_unreliable: str | None = None
    notes: tuple[str, ...] = ()
