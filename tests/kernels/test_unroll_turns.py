import numpy as np
import pytest
from naive.unroll import best_turns

from tracer.unroll.turns import merge_groups, split_pieces, tally


def test_split_pieces__counts_branch_cuts():
    turns = np.array([0.8, 0.95, 0.1, 0.3, 0.5])
    edges = np.array([[0, 1], [1, 2], [2, 3]], np.int32)
    piece, whole, n = split_pieces(5, turns, edges)
    assert n == 2
    assert piece.tolist() == [0, 0, 0, 0, 1]
    assert whole.tolist() == [0, 0, 1, 1, 0]


def test_split_pieces__no_edges_and_no_vertices():
    assert split_pieces(2, np.array([0.1, 0.2]), np.empty((0, 2), np.int32))[2] == 2
    assert split_pieces(0, np.empty(0), np.empty((0, 2), np.int32))[2] == 0


def votes_of(equations):
    a, b, shift, weight = (np.array(column) for column in zip(*equations, strict=True))
    return tally(a, b, shift, weight.astype(float))


def test_tally__adds_equal_votes_and_orients_them():
    votes = votes_of([(0, 1, 2, 1.0), (1, 0, -2, 3.0), (0, 1, 1, 1.0), (2, 2, 0, 9.0)])
    assert votes.a.tolist() == [0, 0]
    assert votes.shift.tolist() == [1, 2]
    assert votes.weight.tolist() == [1.0, 4.0]


def test_merge_groups__consistent_votes_are_all_fulfilled():
    rng = np.random.default_rng(0)
    turn = rng.integers(-5, 6, 40)
    pairs = rng.integers(0, 40, (300, 2))
    equations = [(a, b, turn[a] - turn[b], 1.0) for a, b in pairs if a != b]
    component, found = merge_groups(40, votes_of(equations))
    assert len(np.unique(component)) == 1
    assert np.ptp(found - turn) == 0


def test_merge_groups__liars_are_outvoted():
    rng = np.random.default_rng(1)
    turn = rng.integers(-3, 4, 60)
    equations = []
    for a, b in rng.integers(0, 60, (700, 2)):
        if a != b:
            lie = rng.random() < 0.15
            equations.append((a, b, turn[a] - turn[b] + (1 if lie else 0), rng.uniform(1, 5)))
    _, found = merge_groups(60, votes_of(equations))
    assert np.ptp(found - turn) == 0


@pytest.mark.parametrize("seed", range(12))
def test_merge_groups__is_optimal_on_most_small_problems(seed):
    rng = np.random.default_rng([3, seed])
    turn = rng.integers(-1, 2, 5)
    equations = []
    for a in range(5):
        for b in range(a + 1, 5):
            lie = rng.random() < 0.2
            equations.append((a, b, turn[a] - turn[b] + int(lie), rng.uniform(0.5, 2)))
    component, found = merge_groups(5, votes_of(equations))
    assert len(np.unique(component)) <= 2  # at most one group whose votes are undecided stays apart
    inside = [vote for vote in equations if component[vote[0]] == component[vote[1]]]
    cost = sum(w for a, b, shift, w in inside if found[a] - found[b] != shift)
    assert cost <= best_turns(5, inside) * 1.5 + 1e-9


def test_merge_groups__unconnected_and_undecided_groups_stay_apart():
    component, _ = merge_groups(4, votes_of([(0, 1, 0, 1.0), (2, 3, 0, 1.0), (2, 3, 1, 1.0)]))
    assert component[0] == component[1]
    assert len(np.unique(component)) == 3


def test_merge_groups__does_not_depend_on_the_order_of_votes():
    rng = np.random.default_rng(2)
    equations = [(a, b, int(rng.integers(-1, 2)), 1.0) for a, b in rng.integers(0, 30, (200, 2))]
    first = merge_groups(30, votes_of(equations))
    second = merge_groups(30, votes_of(equations[::-1]))
    assert (first[1] == second[1]).all()
