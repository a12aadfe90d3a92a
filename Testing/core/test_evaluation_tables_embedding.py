import numpy as np
import pytest

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.tables.embedding import embed, read_features


@pytest.fixture
def two_groups():
    """40 vectors in two groups that differ by 8 standard deviations in every feature."""
    rng = np.random.default_rng(0)
    group = np.arange(40) % 2
    return rng.normal(size=(40, 6)) + 8 * group[:, None], group


def test_both_planes_keep_groups_apart(two_groups):
    vectors, group = two_groups
    found = embed(vectors, ["arm"] * 40, ["a"] * 40)
    for plane in (found.pca, found.tsne):
        centres = np.stack([plane[group == g].mean(axis=0) for g in (0, 1)])
        nearest = np.linalg.norm(plane[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == group).all()
    assert found.explained > 0.9
    assert found.perplexity == 13


def test_the_same_seed_gives_the_same_picture(two_groups):
    vectors, _ = two_groups
    first, second = (embed(vectors, ["arm"] * 40, ["a"] * 40, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.tsne, second.tsne)


def test_a_feature_that_never_varies_does_no_harm(two_groups):
    vectors = np.c_[two_groups[0], np.full(40, 7.0)]
    assert np.isfinite(embed(vectors, ["arm"] * 40, ["a"] * 40).pca).all()


def test_too_few_or_unnamed_vectors_are_refused():
    with pytest.raises(InputError, match="at least 5"):
        embed(np.zeros((4, 2)), ["a"] * 4, ["b"] * 4)
    with pytest.raises(InputError, match="one arm and one label"):
        embed(np.zeros((5, 2)), ["a"] * 4, ["b"] * 5)


def test_features_are_read_flat_with_words_for_labels(tmp_path):
    path = tmp_path / "features.npz"
    np.savez(path, features=np.ones((3, 2, 2)), patient=["a", "b", "c"], label=[0, 1, 1])
    found = read_features(path)
    assert found.vectors.shape == (3, 4)
    assert found.labels == ("without PE", "with PE", "with PE")
    np.savez(path, features=np.ones((1, 2)), patient=["a"])
    assert read_features(path).labels == ("",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((2, 2))}, "arrays features and patient"),
        ({"features": np.ones((2, 2)), "patient": ["a"]}, "one patient and label a vector"),
        ({"features": np.ones((2, 2)), "patient": ["a", "b"], "label": [0, 2]}, "row 1"),
        ({"features": np.full((2, 2), np.nan), "patient": ["a", "b"]}, "row 0"),
    ],
)
def test_unusable_features_name_their_file(tmp_path, arrays, message):
    np.savez(tmp_path / "features.npz", **arrays)
    with pytest.raises(InputError, match=rf"(?s)features\.npz.*{message}|{message}.*features\.npz"):
        read_features(tmp_path / "features.npz")
