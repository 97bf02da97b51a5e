import json

import pytest

from tracer.errors import ParamsError, TracerWarning
from tracer.seed_params import SeedParams

# a params file of VC3D's tutorial
TUTORIAL = {
    "cache_root": "/somewhere/cache",
    "cache_size": 1000000000,
    "generations": 200,
    "min_area_cm": 0.3,
    "mode": "seed",
    "step_size": 20,
    "thread_limit": 1,
    "tgt_overlap_count": 20,
}


def test_seed_params__reads_a_vc3d_file(tmp_path):
    file = tmp_path / "seed.json"
    file.write_text(json.dumps(TUTORIAL))
    params = SeedParams.load(file, {"generations": 7})
    assert params.generations == 7
    assert params.step_size == 20.0
    assert params.mode == "random_seed"  # the tutorial's old name of it
    with pytest.warns(TracerWarning, match="'search_effort' has no effect"):
        assert SeedParams.from_mapping({"search_effort": 10}) == SeedParams()


def test_seed_params__round_trips_and_is_hashable():
    field = {"zarr": "fibres.zarr", "dir": "horizontal", "scale": 2, "weight": 0.5}
    params = SeedParams.from_mapping({**TUTORIAL, "direction_fields": [field]})
    effective = params.effective()
    assert effective["direction_fields"] == [field]
    again = SeedParams.from_mapping(json.loads(json.dumps(effective)))
    assert again == params
    assert hash(again) == hash(params)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("generation", "generations"),
        ("stepsize", "step_size"),
        ("min_area_cm2", "min_area_cm"),
        ("cacheroot", "cache_root"),
        ("Threshold", "threshold"),
    ],
)
def test_seed_params__an_unknown_key_names_the_nearest(key, nearest):
    with pytest.raises(ParamsError, match=f"unknown key '{key}'; did you mean '{nearest}'"):
        SeedParams.from_mapping({key: 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generations", 0),
        ("generations", 2.5),
        ("step_size", 0.0),
        ("step_size", float("nan")),
        ("min_area_cm", -0.1),
        ("threshold", 0),
        ("threshold", 256),
        ("mode", "expand"),
        ("rng_seed", -1),
        ("cache_limit_gb", 0.0),
        ("max_tilt", 1.5),
        ("thickness_factor", 1.0),
        ("max_thick", 10),
        ("tgt_overlap_count", 0),
        ("direction_fields", [{"zarr": "a", "dir": "up"}]),
        ("direction_fields", [{"zarr": "a", "dir": "normal", "wieght": 1}]),
    ],
)
def test_seed_params__a_value_out_of_range_names_its_key(key, value):
    with pytest.raises(ParamsError, match=f"params: {key}"):
        SeedParams.from_mapping({key: value})


def test_limits_and_weights__carry_the_parameters_to_the_kernels():
    values = {
        "generations": 9,
        "worst_distance": 1.5,
        "max_cost": 0.2,
        "thickness_factor": 2.0,
        "max_thick": 3,
        "max_tilt": 0.3,
        "max_turn": 0.4,
        "max_slip": 0.1,
    }
    params = SeedParams(**values, step_size=12.0, data_weight=0.3, straight_weight=0.6)
    limits = params.limits()
    assert {name: getattr(limits, name) for name in values} == values
    weights = params.weights(5.0)
    assert (weights.step, weights.data, weights.straightness) == (12.0, 0.3, 0.6)
    assert weights.depth == 2.5  # the mid-line lies half a thickness inside


def test_seed_params__every_parameter_is_documented():
    undocumented = [n for n, f in SeedParams.model_fields.items() if not f.description]
    assert undocumented == []
