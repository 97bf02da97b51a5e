"""Settings shared by all tests."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.load_profile("ci")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell that runs the tests in the background ignores SIGINT, and processes inherit that: those
# that a test interrupts would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder with reference data beside the checkout; skip where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}")
    return folder


@pytest.fixture(scope="session")
def sheet_prediction(tmp_path_factory):
    """Return the path of a small prediction of three bent sheets; see tests/sheet_volume.py."""
    from sheet_volume import make_prediction

    return make_prediction(tmp_path_factory.mktemp("sheets") / "prediction.zarr")


@pytest.fixture(scope="session")
def sheet_volume(sheet_prediction):
    """Return the prediction of three bent sheets as a volume."""
    from tracer.volume import Volume

    return Volume.open(sheet_prediction)
