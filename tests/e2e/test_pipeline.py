"""From a phantom to its hidden text: seed, expand, unroll and render as a user does."""

import json

import pytest

from tracer.cli.main import main
from tracer.collection import PatchCollection
from tracer.phantom import Truth, measure_legibility
from tracer.score import score_paths
from tracer.surface import Surface
from tracer.tif import read_tif

SIZE = 160
GROWTH = {"generations": 6, "step_size": 8, "min_area_cm": 0.001, "rng_seed": 1}

pytestmark = pytest.mark.slow


def run(*words):
    with pytest.raises(SystemExit) as status:
        main([str(word) for word in words])
    assert status.value.code == 0, words


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the whole pipeline has run."""
    out = tmp_path_factory.mktemp("pipeline")
    scroll, prediction, params = out / "scroll", out / "scroll/prediction.zarr", out / "seed.json"
    params.write_text(json.dumps({**GROWTH, "cache_root": str(out / "cache")}))
    run("phantom", scroll, "--size", SIZE, "--level", "easy", "--text", "OX", "--rng-seed", 1)
    common = ("--rng-seed", 1)
    run("seed", prediction, out / "paths", params, "--count", 4, *common)
    run("expand", prediction, out / "paths", params, "--coverage", 0.97, "--count", 60, *common)
    unroll = ("--prediction", prediction, "--no-pictures")
    run("unroll", out / "paths", out / "unrolled", *unroll)
    ink = ("--layers", 9, "--composite", "mean", "--composite-range", "3:6")
    run("render", scroll / "ct.zarr", out / "layers", out / "unrolled", *ink)
    return out


def test_expand__covers_the_sheet_without_a_switch(place):
    collection = PatchCollection(place / "paths")
    sources = [collection.load(name).meta["source"] for name in collection.names()]
    assert sources.count("tracer seed") >= 2
    assert sources.count("tracer expand") > 5
    score = score_paths([place / "paths"], Truth.load(place / "scroll"))
    assert score.n_surfaces == len(sources)
    assert score.n_switched == 0
    assert score.distance_median < 0.5
    assert score.coverage > 0.9


def test_unroll__gives_one_surface_that_covers_the_recto_without_a_switch(place):
    score = score_paths([place / "unrolled"], Truth.load(place / "scroll"))
    assert score.n_surfaces == 1
    assert score.n_switched == 0
    assert score.distance_median < 0.5
    assert score.coverage > 0.8


def test_render__shows_the_text(place):
    image = read_tif(place / "layers" / "mean.tif")
    truth = Truth.load(place / "scroll")
    found = measure_legibility(image, Surface.load(place / "unrolled"), truth)
    assert found.coverage > 0.75
    assert found.correlation > 0.8
    # the same picture upside down shows much less of it
    turned = measure_legibility(image[::-1], Surface.load(place / "unrolled"), truth)
    assert turned.correlation < 0.5 * found.correlation
