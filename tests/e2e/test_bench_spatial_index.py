import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_bench_spatial_index__runs_its_tiniest_case():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_spatial_index", "--tiny"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    for figure in ("queries_per_cpu_s", "build_cpu_s", "bytes_per_quad", "memory_mb"):
        assert figure in run.stdout
