import numpy as np

from tracer.kernels._jit import borrowed, kernel


@kernel
def add_one(values, other, rounds):
    values, other = borrowed(values), borrowed(other)
    part = values[1:]
    for _ in range(rounds):
        for i in range(part.shape[0]):
            part[i] += 1.0 + other[0]


def test_borrowed__is_the_very_array():
    values, other = np.zeros(4), np.zeros(1)
    add_one(values, other, 3)
    np.testing.assert_array_equal(values, [0.0, 3.0, 3.0, 3.0])
    assert borrowed(values) is values


def test_borrowed__takes_read_only_and_strided_arrays():
    values, other = np.zeros((4, 2))[:, 1], np.ones(1)
    other.setflags(write=False)
    add_one(values, other, 1)
    np.testing.assert_array_equal(values, [0.0, 2.0, 2.0, 2.0])
