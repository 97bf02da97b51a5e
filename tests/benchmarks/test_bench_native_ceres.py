import math

import pytest

from benchmarks import bench_native_ceres


@pytest.mark.slow
@pytest.mark.parametrize("case", bench_native_ceres.TINY, ids=lambda case: case.name)
def test_run__tiniest_case(case):
    figures = bench_native_ceres.run(case)
    assert figures["joint blocks per vertex"] > 1.0
    assert all(math.isfinite(value) and value >= 0.0 for value in figures.values())
