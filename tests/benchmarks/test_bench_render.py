"""The render benchmark at its tiniest case."""

import pytest

from benchmarks import bench_render


@pytest.mark.slow
def test_run__tiny():
    for case in bench_render.TINY:
        figures = bench_render.run(case)
        assert figures["finished"] == "True"
        assert figures["tiles done"] == figures["tiles"]
        assert figures["memory_mb"] > 0
