"""Disjoint sets against SciPy's connected components."""

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from tracer.kernels import union_find


def test_join_pairs__equals_scipy_and_roots_are_smallest():
    rng = np.random.default_rng(1)
    for pairs in (0, 10, 40, 200):
        first, second = rng.integers(0, 60, (2, pairs))
        parents = np.arange(60)
        union_find.join_pairs(parents, first, second)
        union_find.flatten_sets(parents)
        graph = scipy.sparse.coo_matrix((np.ones(pairs), (first, second)), shape=(60, 60))
        _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
        for item in range(60):
            assert parents[item] == np.flatnonzero(labels == labels[item])[0]


def test_join_pairs__order_does_not_matter():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 50, (2, 60))
    results = []
    for _ in range(5):
        order = rng.permutation(60)
        parents = np.arange(50)
        union_find.join_pairs(parents, first[order], second[order])
        union_find.flatten_sets(parents)
        results.append(parents)
    for parents in results[1:]:
        np.testing.assert_array_equal(parents, results[0])


def test_find_root__halves_the_path():
    parents = np.array([0, 0, 1, 2, 3])
    assert union_find.find_root(parents, 4) == 0
    assert parents.tolist() == [0, 0, 0, 2, 2]
