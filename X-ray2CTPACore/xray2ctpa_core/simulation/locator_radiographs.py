"""Simulated radiographs with lung masks and a class, drawn during training of the lung locator."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from xray2ctpa_core.preprocessing.frame import resample_square
from xray2ctpa_core.preprocessing.letterbox import LOCATOR_PIXELS, letterbox
from xray2ctpa_core.preprocessing.lung_box import FRONTAL, NOT_A_RADIOGRAPH, OTHER_VIEW
from xray2ctpa_core.simulation import radiograph_anatomy as anatomy
from xray2ctpa_core.simulation.negatives import not_a_radiograph
from xray2ctpa_core.simulation.radiograph_appearance import expose, furnish
from xray2ctpa_core.simulation.radiograph_layers import LayeredView, seen_lungs
from xray2ctpa_core.simulation.template import Template

#: Class of radiographs between complete and cut: the masks are used in training, the class is not.
UNDECIDED = -100
#: A radiograph with at most / at least this share of the lungs' area outside counts as complete / cut.
COMPLETE, CUT = 0.06, 0.25
#: Share of radiographs with left and right exchanged.
MIRRORED_SHARE = 0.3
#: Longer side in pixels at which radiographs are simulated.
RADIOGRAPH_PIXELS = 144


@dataclass(frozen=True)
class SimulatedRadiograph:
    """A radiograph before letterboxing.

    Attributes:
        pixels: (H, W) float32 in [0, 1].
        masks: (2, H, W) bool, lungs on the image's left and right; None without masks.
        label: FRONTAL, OTHER_VIEW, NOT_A_RADIOGRAPH or UNDECIDED.
        mirrored: whether left and right are exchanged; masks are ordered by the image's sides all the same.
    """

    pixels: np.ndarray
    masks: np.ndarray | None
    label: int
    mirrored: bool = False


def draw_shape(rng: np.random.Generator) -> tuple[int, int]:
    """(H, W) of a radiograph: often square, else portrait or landscape."""
    ratio = 1.0 if rng.random() < 0.35 else float(np.exp(rng.normal(0, 0.13)))
    ratio = float(np.clip(ratio, 0.62, 1.5))
    return (
        (RADIOGRAPH_PIXELS, int(RADIOGRAPH_PIXELS * ratio))
        if ratio < 1
        else (int(RADIOGRAPH_PIXELS / ratio), RADIOGRAPH_PIXELS)
    )


def frontal_radiograph(view: LayeredView, rng: np.random.Generator) -> SimulatedRadiograph:
    """An upright frontal radiograph, complete or slightly cut, with masks."""
    shape = draw_shape(rng)
    where = anatomy.radiograph_coordinates(view, anatomy.draw_placement(shape, rng), rng)
    layers = anatomy.sample_layers(view, where, rng)
    masks = seen_lungs(layers)
    radiograph = furnish(expose(anatomy.attenuation(layers, where, rng), rng), rng, masks[0] | masks[1])
    label = _completeness(view, where, masks)
    if rng.random() < MIRRORED_SHARE:
        return SimulatedRadiograph(
            radiograph[:, ::-1].copy(), masks[::-1, :, ::-1].copy(), label, mirrored=True
        )
    return SimulatedRadiograph(radiograph, masks, label)


def _completeness(view: LayeredView, where: np.ndarray, masks: np.ndarray) -> int:
    """FRONTAL, UNDECIDED or OTHER_VIEW, by the share of the lungs' area outside the radiograph."""
    seen = view.lungs().any(0)
    rows = np.clip(np.round(where[0]), 0, seen.shape[0] - 1).astype(int)
    columns = np.clip(np.round(where[1]), 0, seen.shape[1] - 1).astype(int)
    hit = np.zeros(seen.shape, bool)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            hit[np.clip(rows + dr, 0, seen.shape[0] - 1), np.clip(columns + dc, 0, seen.shape[1] - 1)] = True
    missing = 1 - (seen & hit).sum() / seen.sum()
    if not masks.any((1, 2)).all() or missing >= CUT:
        return OTHER_VIEW
    return FRONTAL if missing <= COMPLETE else UNDECIDED


def other_radiograph(
    view: LayeredView, lateral: LayeredView, rng: np.random.Generator
) -> SimulatedRadiograph:
    """A chest radiograph that the gate must refuse: turned, inverted, cut, or a lateral view."""
    kind = rng.choice(["turned", "inverted", "cut", "lateral"], p=[0.3, 0.25, 0.25, 0.2])
    if kind == "lateral":
        shape = draw_shape(rng)
        where = anatomy.radiograph_coordinates(lateral, anatomy.draw_placement(shape, rng), rng)
        image = anatomy.attenuation(anatomy.sample_layers(lateral, where, rng), where, rng)
        return SimulatedRadiograph(furnish(expose(image, rng), rng), None, OTHER_VIEW)
    radiograph = frontal_radiograph(view, rng)
    if kind == "turned":
        return SimulatedRadiograph(
            np.rot90(radiograph.pixels, int(rng.integers(1, 4))).copy(), None, OTHER_VIEW
        )
    if kind == "inverted" or radiograph.masks is None:
        return SimulatedRadiograph(1 - radiograph.pixels, None, OTHER_VIEW)
    return _cut_down(radiograph, radiograph.masks, rng)


def _cut_down(
    radiograph: SimulatedRadiograph, masks: np.ndarray, rng: np.random.Generator
) -> SimulatedRadiograph:
    """A part of the radiograph without at least CUT of the lungs: one lung, bases, apices, a shoulder."""
    lungs = masks[0] | masks[1]
    height, width = lungs.shape
    for _ in range(8):
        h, w = (int(rng.uniform(0.3, 0.9) * n) for n in (height, width))
        t, le = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        if rng.random() < 0.3:
            h, t = height, 0
        elif rng.random() < 0.4:
            w, le = width, 0
        part = lungs[t : t + h, le : le + w]
        if part.sum() < (1 - CUT) * lungs.sum():
            pixels = radiograph.pixels[t : t + h, le : le + w].copy()
            return SimulatedRadiograph(pixels, masks[:, t : t + h, le : le + w].copy(), OTHER_VIEW)
    return SimulatedRadiograph(
        radiograph.pixels[: height // 2].copy(), masks[:, : height // 2].copy(), OTHER_VIEW
    )


class LocatorRadiographs(Dataset):  # type: ignore[type-arg]
    """Radiographs for the lung locator; item ``index`` of a seed is always the same radiograph.

    Args:
        template: CT from which slices are drawn as images that are no radiographs.
        frontal, lateral: layered views from which radiographs are drawn.
        length: number of items.
        seed: of the whole set.
        shares: of frontal radiographs, other chest radiographs and images that are no radiographs.

    Items are dicts: ``image`` (1, 128, 128) float32, ``masks`` (2, 128, 128) float32, ``learn_masks`` float32
    0 or 1, ``label`` int64, ``mirrored`` float32 0 or 1 (used where ``label`` is FRONTAL).
    """

    def __init__(
        self,
        template: Template,
        frontal: list[LayeredView],
        lateral: list[LayeredView],
        length: int,
        seed: int,
        shares: tuple[float, float, float] = (0.58, 0.22, 0.2),
    ) -> None:
        self.template, self.frontal, self.lateral = template, frontal, lateral
        self.length, self.seed, self.shares = length, seed, shares

    def __len__(self) -> int:
        return self.length

    def draw(self, index: int) -> SimulatedRadiograph:
        """The radiograph of ``index`` before letterboxing."""
        rng = np.random.default_rng((self.seed, index))
        kind = rng.choice(3, p=self.shares)
        if kind == NOT_A_RADIOGRAPH:
            return SimulatedRadiograph(
                not_a_radiograph(self.template, draw_shape(rng), rng), None, NOT_A_RADIOGRAPH
            )
        view = self.frontal[rng.integers(len(self.frontal))]
        if kind == FRONTAL:
            return frontal_radiograph(view, rng)
        return other_radiograph(view, self.lateral[rng.integers(len(self.lateral))], rng)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        radiograph = self.draw(index)
        image, square = letterbox(radiograph.pixels)
        masks = np.zeros((2, LOCATOR_PIXELS, LOCATOR_PIXELS), np.float32)
        learn = radiograph.masks is not None or radiograph.label == NOT_A_RADIOGRAPH
        if radiograph.masks is not None:
            padded = [np.pad(m.astype(np.float32), 1) for m in radiograph.masks]
            moved = type(square)(square.top + 1, square.left + 1, square.side)
            masks = np.stack([resample_square(m, moved, LOCATOR_PIXELS) for m in padded])
        return {
            "image": torch.from_numpy(image)[None],
            "masks": torch.from_numpy((masks > 0.5).astype(np.float32)),
            "learn_masks": torch.tensor(float(learn)),
            "label": torch.tensor(radiograph.label),
            "mirrored": torch.tensor(float(radiograph.mirrored)),
        }
