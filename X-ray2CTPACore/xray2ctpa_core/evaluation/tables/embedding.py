"""Features of many volumes in a plane by PCA and t-SNE (scikit-learn), and the files of features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading

#: t-SNE's usual perplexity (van der Maaten and Hinton 2008), for sets that are large enough for it.
PERPLEXITY = 30.0
#: Principal components that t-SNE reads, as is usual for many features.
COMPONENTS = 50


@dataclass(frozen=True)
class Features:
    """features.npz of an arm: one vector a patient.

    Attributes:
        vectors: (N, F) float64, finite: latents or features, flattened.
        patients: N names.
        labels: N words: "with PE", "without PE" or "".
    """

    vectors: np.ndarray
    patients: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Embedding:
    """Points in two planes.

    Attributes:
        pca, tsne: (N, 2).
        explained: share of the variance that the first two components hold, 0..1.
        perplexity: of t-SNE.
        arms, labels: N words each, which distinguish the points.
    """

    pca: np.ndarray
    tsne: np.ndarray
    explained: float
    perplexity: float
    arms: tuple[str, ...]
    labels: tuple[str, ...]


def label_word(label: int | None) -> str:
    """ "with PE", "without PE", or "" for an unknown label."""
    return "" if label is None else ("without PE", "with PE")[label]


def read_features(path: Path) -> Features:
    """The arrays ``features`` (N, ...), ``patient`` (N,) and, where known, ``label`` (N,) of an .npz file.

    Raises:
        InputError: arrays missing or of other lengths, NaN, or a label that is not 0 or 1; it names the file.
    """
    with reading(path, "NumPy .npz"), np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if not {"features", "patient"} <= set(arrays):
        raise InputError(f"Expected the arrays features and patient in {path}, got {sorted(arrays)}.")
    count = len(arrays["features"])
    vectors = np.asarray(arrays["features"], dtype=np.float64).reshape(count, -1)
    patients = tuple(str(name) for name in arrays["patient"])
    labels = [None] * count if "label" not in arrays else arrays["label"].tolist()
    if len(patients) != count or len(labels) != count:
        raise InputError(
            f"Expected one patient and label a vector in {path}, got {len(patients)} of {count}."
        )
    wrong = [n for n in range(count) if labels[n] not in (None, 0, 1) or not np.isfinite(vectors[n]).all()]
    if wrong:
        raise InputError(f"Expected finite features and labels 0 or 1 in {path}, row {wrong[0]} has others.")
    return Features(vectors, patients, tuple(label_word(label) for label in labels))


def embed(vectors: np.ndarray, arms: Sequence[str], labels: Sequence[str], seed: int = 0) -> Embedding:
    """PCA and t-SNE of standardised features.

    Args:
        vectors: (N, F) finite, N at least 5; all arms together, so that they share the planes.
        arms, labels: N words each.
        seed: of t-SNE; the same seed gives the same figure.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) < 5 or not np.isfinite(vectors).all():
        raise InputError(f"Expected at least 5 finite vectors (N, F), got shape {vectors.shape}.")
    if len(arms) != len(vectors) or len(labels) != len(vectors):
        raise InputError("Expected one arm and one label a vector.")
    spread = vectors.std(axis=0)
    scaled = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1)
    pca = PCA(min(COMPONENTS, *scaled.shape), random_state=seed)
    components = pca.fit_transform(scaled)
    plane = np.zeros((len(scaled), 2))
    plane[:, : components.shape[1]] = components[:, :2]
    perplexity = min(PERPLEXITY, (len(scaled) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca" if components.shape[1] > 1 else "random", random_state=seed)
    explained = float(pca.explained_variance_ratio_[:2].sum())
    return Embedding(plane, tsne.fit_transform(components), explained, perplexity, tuple(arms), tuple(labels))
