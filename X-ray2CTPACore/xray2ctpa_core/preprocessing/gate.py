"""The input gate: is this an upright, complete frontal chest radiograph, and what is doubtful about it."""

from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.constants import OTHER_VIEWS
from xray2ctpa_core.preprocessing.lung_box import CLASS_NAMES, FRONTAL, LungShape
from xray2ctpa_core.preprocessing.side_marker import SideMarker
from xray2ctpa_core.preprocessing.sides import side_doubts

#: Images scoring at least this are read: 363 of 370 real radiographs, as the recipe gate prints.
ACCEPT_FROM = 0.5
#: Below this score an accepted radiograph carries a warning.
SURE_FROM = 0.8
#: Width over height of both lungs' box in complete frontal radiographs (370 of them: 0.84 to 1.71, as
#: the recipe gate prints).
ASPECT_RANGE = (0.7, 2.1)
#: Share of the radiograph's square that both lungs cover in complete frontal radiographs (0.12 to 0.52).
AREA_RANGE = (0.05, 0.75)
#: Lung along this share of the box's side at the radiograph's edge: the lungs reach it, or are cut off there.
TOUCH_FROM, CUT_FROM = 0.1, 0.45
#: Above this probability the lungs are said to be cut off at an edge. The recipe gate prints how
#: often, of cuts by 12 % that take 1 % or more of the lungs: 91 of 114 (80 %) of NIH radiographs,
#: cross-validated by patient, with 5 of 180 whole ones (3 %) warned of; 258 of 319 (81 %) of published ones,
#: on which nothing was fitted, with 25 of 190 whole ones (13 %). Most cuts of that size take less of the
#: lungs or none; of these 113 of 606 and 138 of 441 are warned of. The threshold was chosen with both in
#: view.
CUT_PROBABLE = 0.9
#: Lungs that are doubted at top or bottom and wider than this against their height, or doubted at two edges,
#: have lost a part: none of the 363 real radiographs that the other rules accept (the threshold was chosen
#: with them in view), most of those without their upper half.
CUT_ASPECT, CUT_EDGES = 1.5, 2
#: Lungs tilted by more degrees belong to a radiograph that was turned. The recipe gate prints how
#: often: 1 of 180 NIH radiographs as they are, 169 of 360 (47 %) turned by 12 degrees; 4 of 190 published
#: ones (2 %) as they are, 190 of 380 (50 %) turned; the threshold was chosen with both in view.
TILTED_FROM = 10.5
#: Lungs with less room around them (LungShape.room) fill the radiograph: it is refused where the network is
#: less sure than this. The recipe gate prints that of the middles (60 % of height and width) of 371 real
#: radiographs 41 are accepted, 98 without this rule, and of the whole ones as many as before; the thresholds
#: were chosen with both in view.
TIGHT_ROOM, TIGHT_SURE = 0.4, 0.91
#: Of lungs with so many cut edges, as the sum of their probabilities, no single one need be doubted.
CUT_EDGES_EXPECTED = 1.5
#: A mediastinum further off the lungs' middle, or narrower, belongs to a patient who is turned (an oblique)
#: or whose mediastinum is shifted: the radiograph is refused where the network is less sure than the last.
#: The recipe gate prints that of 22 projections of eleven people's CTs at 45 degrees 9 are accepted, 20
#: without this rule, and at 15 degrees all; the thresholds were chosen with these and the real radiographs in
#: view.
OFF_MIDDLE, NARROW, TURNED_SURE = 0.065, 0.12, 0.96
#: A radiograph with fewer pixels along its shorter side shows little of the vessels.
SMALL_RADIOGRAPH = 256


@dataclass(frozen=True)
class GateReport:
    """The gate's judgement.

    Attributes:
        is_frontal_cxr: 0 (certainly not) to 1 (certainly an upright, complete frontal chest radiograph).
        warnings: doubts, in sentences.
        accepted: whether the radiograph is read without ``--force``.
    """

    is_frontal_cxr: float
    warnings: tuple[str, ...]
    accepted: bool


def judge(
    class_probabilities: np.ndarray,
    shape: LungShape,
    pixels_shape: tuple[int, int],
    view: str = "unknown",
    mirrored: float = 0.0,
    doubts: tuple[str, ...] = (),
    sides: str = "",
    marker: SideMarker | None = None,
) -> GateReport:
    """Joins the network's class and the plausibility of its lung masks.

    Args:
        class_probabilities: (3,) in the order of CLASS_NAMES.
        shape: features of the lung masks.
        pixels_shape: (H, W) of the radiograph in pixels.
        view: view position that the file states.
        mirrored: probability that left and right are exchanged.
        doubts: sentences about the radiograph found elsewhere; kept in front.
        sides: what in the file says which side is the patient's left, "" where nothing does.
        marker: the side marker, if one was read.
    """
    probability = float(class_probabilities[FRONTAL])
    plausible, warnings = plausibility(shape, probability)
    score = probability * plausible
    is_other = view in OTHER_VIEWS
    accepted = score >= ACCEPT_FROM and not is_other
    sentences = [*doubts, *warnings]
    if is_other:
        sentences.append(f"The file says view position {view}, which is no upright frontal view.")
    if accepted:
        sentences.extend(side_doubts(marker, mirrored, sides))
    if min(pixels_shape) < SMALL_RADIOGRAPH:
        sentences.append(
            f"The radiograph has only {pixels_shape[1]} x {pixels_shape[0]} pixels; fine structures are lost."
        )
    if not accepted:
        likely = int(np.argmax(class_probabilities))
        looks = (
            "a frontal chest radiograph, but no complete one" if likely == FRONTAL else CLASS_NAMES[likely]
        )
        sentences.append(f"The radiograph looks like: {looks} (score {score:.2f}, {ACCEPT_FROM} is needed).")
    elif score < SURE_FROM:
        sentences.append(
            f"It is not certain that this is an upright, complete frontal radiograph ({score:.2f})."
        )
    return GateReport(score, tuple(sentences), accepted)


def plausibility(shape: LungShape, probability: float) -> tuple[float, list[str]]:
    """Factor 0..1 on the class probability, and what is odd about the lungs, in sentences.

    Args:
        shape: features of the lung masks.
        probability: of the class FRONTAL.
    """
    if shape.box is None:
        return 0.2, ["No lungs were found."]
    factor, warnings = 1.0, []
    low, high = AREA_RANGE
    for name, height in zip(("right", "left"), shape.heights, strict=True):
        if height == 0.0:
            factor *= 0.55
            warnings.append(f"The patient's {name} lung was not found; it may be opaque or cut off.")
        elif height < 0.45:
            warnings.append(f"The patient's {name} lung is seen in part only.")
    if not low <= sum(shape.areas) <= high:
        factor *= 0.6
        warnings.append(
            f"The lungs cover {sum(shape.areas):.0%} of the image, {low:.0%} to {high:.0%} is usual."
        )
    if not ASPECT_RANGE[0] <= shape.aspect <= ASPECT_RANGE[1]:
        factor *= 0.6
        warnings.append(f"The lungs are {shape.aspect:.1f} times as wide as high, which is unusual.")
    edges = ("top", "left", "bottom", "right")
    doubted = []
    for edge, contact, cut in zip(edges, shape.contact, shape.cut, strict=True):
        if contact > TOUCH_FROM or cut > CUT_PROBABLE:
            doubted.append(edge)
        if contact > CUT_FROM:
            factor *= 0.5
            warnings.append(f"The lungs are cut off at the radiograph's {edge}.")
        elif contact > TOUCH_FROM:
            warnings.append(f"The lungs reach the radiograph's {edge} edge and may be cut off.")
        elif cut > CUT_PROBABLE:
            warnings.append(
                f"The lungs seem to be cut off at the radiograph's {edge}, or to end right at it."
            )
    if len(doubted) >= CUT_EDGES or (shape.aspect > CUT_ASPECT and {"top", "bottom"} & {*doubted}):
        factor *= 0.5
        warnings.append("A part of the lungs seems to be missing.")
    elif sum(shape.cut) > CUT_EDGES_EXPECTED:
        warnings.append("The lungs seem to be cut off at several edges, or to end right at them.")
    if shape.room < TIGHT_ROOM and probability < TIGHT_SURE:
        factor *= 0.5
        warnings.append("The lungs fill the radiograph; a part of them seems to be missing.")
    if is_turned(shape):
        factor *= 0.5 if probability < TURNED_SURE else 1.0
        warnings.append(
            "The patient seems to be turned to the side (an oblique), or the mediastinum is shifted: it does "
            "not lie in the middle between the lungs."
        )
    if abs(shape.tilt_degrees) > TILTED_FROM:
        direction = "counter-clockwise" if shape.tilt_degrees > 0 else "clockwise"
        warnings.append(
            f"The radiograph seems to be turned by about {abs(shape.tilt_degrees):.0f} degrees {direction}."
        )
    return factor, warnings


def is_turned(shape: LungShape) -> bool:
    """Whether the mediastinum lies as in a patient turned about the body's axis."""
    between = shape.mediastinum
    return between is not None and (between.off_middle > OFF_MIDDLE or between.least_width < NARROW)
