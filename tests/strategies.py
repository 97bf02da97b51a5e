"""Hypothesis strategies and plain makers of test input."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracer.surface import Surface


def wavy_surface(rows=9, cols=12, *, step=20.0, origin=(100.0, 200.0, 300.0), holes=0, seed=0):
    """Return a gently curved surface, columns along x and rows along z."""
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[:rows, :cols].astype(np.float64)
    points = np.stack(
        [
            origin[0] + step * c + 2 * np.sin(0.7 * r),
            origin[1] + 5 * np.sin(0.6 * c + 0.3 * r) + rng.normal(0, 0.2, (rows, cols)),
            origin[2] + step * r + 2 * np.cos(0.5 * c),
        ],
        axis=-1,
    )
    valid = np.ones((rows, cols), dtype=bool)
    valid.ravel()[rng.choice(rows * cols, size=holes, replace=False)] = False
    return Surface(points_xyz=points, valid=valid, scale=(1 / step, 1 / step))


@st.composite
def surfaces(draw, max_side=7):
    """Surfaces of any shape with holes, odd values and channels; at least one vertex is valid."""
    rows, cols = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    points = draw(
        hnp.arrays(
            np.float32,
            (rows, cols, 3),
            elements=st.floats(-10, 70000, width=32, allow_subnormal=False),
        )
    )
    valid = draw(hnp.arrays(bool, (rows, cols)))
    points[0, 0] = (1.5, -2.5, 3.5)
    valid[0, 0] = True
    dtypes = draw(st.lists(st.sampled_from(["u1", "u2", "f4", "f8"]), max_size=2))
    channels = {
        f"channel_{i}": draw(hnp.arrays(dtype, (rows, cols))) for i, dtype in enumerate(dtypes)
    }
    step = draw(st.floats(0.5, 200))
    return Surface(points_xyz=points, valid=valid, scale=(1 / step, 1 / step), channels=channels)
