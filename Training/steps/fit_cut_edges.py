"""Fits at which edges of a radiograph the lungs are cut off, for the input gate's warning.

Every radiograph counts whole and with 6, 12 and 20 % of its height or width cut off at each edge. A cut
takes the lungs off where they lose LEAST_LOSS of their area in the locator's masks of the whole radiograph;
a cut that takes less is no example of either kind. Prints the weights for `preprocessing/cut_edge.py` and,
of cuts by 12 % and of whole radiographs, how many the gate warns of at its thresholds: cross-validated by
patient (the name up to the first underscore) on the folders to fit, and on the folders to measure.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import minimize
from sklearn.model_selection import GroupKFold

from xray2ctpa_core.cli.stage import write_report
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
from xray2ctpa_core.models.framing.lung_location import locate_lungs_in
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing.content import anatomy_edges, content_box
from xray2ctpa_core.preprocessing.cut_edge import DISTANCES, EDGES, KINDS, WEIGHTS, edge_features
from xray2ctpa_core.preprocessing.gate import CUT_PROBABLE, TOUCH_FROM
from xray2ctpa_core.preprocessing.lung_box import largest_component
from xray2ctpa_core.training.settings.gate import CutEdgeSettings
from xray2ctpa_core.volume import FrontalFrame

FOLDS = 5
#: Shares of the height or width that are cut off at an edge; that of the printed rates.
SHARES, MEASURED_SHARE = (0.06, 0.12, 0.2), 0.12
#: Pixels along a side of what is cut.
LONGEST = 512
#: Share of the lungs' area that a cut takes at least.
LEAST_LOSS = 0.01
#: A whole radiograph weighs as much as so many views with another edge cut.
WHOLE_WEIGHT = 4.0


@dataclass
class Views:
    """Views of radiographs, whole and cut: a row each.

    Attributes:
        features: of each edge.
        cut: number of the edge that was cut, -1 of a whole radiograph.
        share: that was cut off.
        loss: share of the lungs' area that the cut took.
        contact: share of the box's side along which lung runs into each edge.
        patient: names.
    """

    features: list[np.ndarray] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    contact: list[tuple[float, float, float, float]] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)


def run(config: CutEdgeSettings, out: Path) -> None:
    """Fits, prints, and writes the weights to ``out``/weights.txt."""
    locator = gate_locator(resolve_bundle(config.bundle) / "lung_locator")
    weights = fit(locator, config, out) if config.fit else WEIGHTS
    if config.measure:
        others = viewed(locator, config.measure, (MEASURED_SHARE,))
        report("measured", others, probabilities(weights, others, np.arange(len(others.cut))))


def fit(locator: LungLocator, config: CutEdgeSettings, out: Path) -> dict[str, np.ndarray]:
    """The weights, which are printed, and written to ``out``/weights.txt."""
    views = viewed(locator, config.fit, SHARES)
    patients = np.array(views.patient)
    if len(set(patients)) < FOLDS:
        raise InputError(f"Expected radiographs of at least {FOLDS} patients, got {len(set(patients))}.")
    found = np.empty((len(patients), len(EDGES)))
    for train, test in GroupKFold(FOLDS).split(found, groups=patients):
        found[test] = probabilities(weights_of(views, train, config.penalty), views, test)
    weights = weights_of(views, np.arange(len(patients)), config.penalty)
    report("cross-validated", views, found)
    text = "".join(f'"{kind}": ({", ".join(f"{w:.2f}" for w in row)}),\n' for kind, row in weights.items())
    write_report(out / "weights.txt", text)
    return weights


def viewed(locator: LungLocator, folders: tuple[str, ...], shares: tuple[float, ...]) -> Views:
    """Every radiograph with lungs, whole and cut at each edge by each of ``shares``."""
    views = Views()
    for path in (path for folder in folders for path in radiographs_below(Path(folder))):
        pixels = reduced(read_radiograph(path).pixels)
        whole = locate_lungs_in(locator, [pixels])[0]
        box = content_box(pixels)
        for cut, share, part in ((-1, 0.0, box), *cuts(box, shares)):
            seen = np.ascontiguousarray(pixels if cut < 0 else pixels[part[0] : part[2], part[1] : part[3]])
            location = whole if cut < 0 else locate_lungs_in(locator, [seen])[0]
            if location.shape.box is None:
                continue
            edges = edges_in_grid(seen, location.square, location.mask.shape[-1])
            lungs = largest_component(location.mask[0]) | largest_component(location.mask[1])
            views.features.append(np.array([edge_features(lungs, edges, n) for n in range(len(EDGES))]))
            views.cut.append(cut)
            views.share.append(share)
            views.loss.append(0.0 if cut < 0 else loss_of(whole.mask.any(axis=0), whole.square, part))
            views.contact.append(location.shape.contact)
            views.patient.append(path.name.split("_")[0])
    return views


def reduced(pixels: np.ndarray) -> np.ndarray:
    """``pixels`` (H, W) with at most LONGEST of them along a side: the locator reads fewer."""
    factor = LONGEST / max(pixels.shape)
    if factor >= 1:
        return pixels
    size = round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def cuts(
    box: tuple[int, int, int, int], shares: tuple[float, ...]
) -> list[tuple[int, float, tuple[int, int, int, int]]]:
    """(edge, share, box that is left) of every cut of the content ``box``."""
    found = []
    for share in shares:
        for edge in range(len(EDGES)):
            side = box[edge % 2 + 2] - box[edge % 2]
            part = list(box)
            part[edge] += round(share * side) * (1 if edge < 2 else -1)
            found.append((edge, share, (part[0], part[1], part[2], part[3])))
    return found


def edges_in_grid(pixels: np.ndarray, square: FrontalFrame, size: int) -> tuple[float, float, float, float]:
    """Where the radiograph ends, in pixels of the locator's grid."""
    found = np.array(anatomy_edges(pixels, content_box(pixels)))
    top, left, bottom, right = (found - np.array([square.top, square.left] * 2)) / (square.side / size)
    return float(top), float(left), float(bottom), float(right)


def loss_of(lungs: np.ndarray, square: FrontalFrame, part: tuple[int, int, int, int]) -> float:
    """Share of ``lungs`` (size, size), masks on ``square``, that lies outside ``part`` of the radiograph."""
    centres = (np.arange(len(lungs)) + 0.5) * square.side / len(lungs)
    rows, columns = centres + square.top, centres + square.left
    inside = np.outer((rows >= part[0]) & (rows < part[2]), (columns >= part[1]) & (columns < part[3]))
    return float(1 - (lungs & inside).sum() / max(lungs.sum(), 1))


def weights_of(views: Views, rows: np.ndarray, penalty: float) -> dict[str, np.ndarray]:
    """Weights and constant of each kind of edge, fitted on ``rows`` of ``views``; as many cuts as others."""
    features, cut = np.array(views.features)[rows], np.array(views.cut)[rows]
    loss = np.array(views.loss)[rows]
    weights = {}
    for kind in dict.fromkeys(KINDS):
        parts = []
        for number in (n for n, k in enumerate(KINDS) if k == kind):
            used = (cut != number) | (loss >= LEAST_LOSS)
            weight = np.where(cut[used] < 0, WHOLE_WEIGHT, 1.0)
            parts.append((features[used, number], cut[used] == number, weight))
        x, y, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        weight = weight * np.where(y, (weight * ~y).sum() / max((weight * y).sum(), 1.0), 1.0)
        weights[kind] = fitted(x, y, weight, penalty)
    return weights


def fitted(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    """Weights and constant of a logistic regression in which a feature can only speak for what it means:
    nearness to the edge, lung along the edge and a flat end for a cut.

    Args:
        x: (N, features). y: (N,) bool, cut. weight: (N,) of each.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    towards = np.where(np.arange(x.shape[1]) < DISTANCES, -1.0, 1.0)
    design = np.column_stack([(x - mean) / spread * towards, np.ones(len(x))])
    side = np.where(y, 1.0, -1.0)
    ridge = np.append(np.full(x.shape[1], penalty), 0.0)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        margins = side * (design @ values)
        slope = -weight * side / (1 + np.exp(margins))
        total = (weight * np.logaddexp(0, -margins)).sum() + (ridge * values**2).sum() / 2
        return total, design.T @ slope + ridge * values

    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    best = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds).x
    slopes = best[:-1] * towards / spread
    return np.append(slopes, best[-1] - slopes @ mean)


def probabilities(weights: dict[str, np.ndarray], views: Views, rows: np.ndarray) -> np.ndarray:
    """(N, 4) of ``rows``, edge by edge."""
    features = np.array(views.features)[rows]
    logits = [features[:, n] @ weights[k][:-1] + weights[k][-1] for n, k in enumerate(KINDS)]
    return np.asarray(1 / (1 + np.exp(-np.stack(logits, axis=1))))


def report(name: str, views: Views, found: np.ndarray) -> None:
    """Prints how many whole and cut radiographs pass the gate's threshold."""
    warned = (found > CUT_PROBABLE) | (np.array(views.contact) > TOUCH_FROM)
    cut, share, loss = np.array(views.cut), np.array(views.share), np.array(views.loss)
    whole = cut < 0
    sys.stdout.write(f"{name}: {share_of(warned[whole].any(axis=1))} whole radiographs are warned of.\n")
    for label, edges in (*((edge, (n,)) for n, edge in enumerate(EDGES)), ("all edges", tuple(range(4)))):
        of = np.isin(cut, edges) & (share == MEASURED_SHARE)
        own = warned[np.arange(len(cut)), np.maximum(cut, 0)]
        sys.stdout.write(
            f"{name}, {MEASURED_SHARE:.0%} cut off at {label}: {share_of(own[of & (loss >= LEAST_LOSS)])} "
            f"that lose {LEAST_LOSS:.0%} or more of the lungs, {share_of(own[of & (loss < LEAST_LOSS)])} "
            "others.\n"
        )


def share_of(warned: np.ndarray) -> str:
    """How many of how many, in words."""
    return f"{warned.sum()} of {len(warned)}" + (f" ({warned.mean():.0%})" if len(warned) else "")
