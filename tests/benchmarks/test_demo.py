import json

import pytest

from benchmarks import demo
from tracer.errors import ParamsError
from tracer.run.config import load_config


def written(tmp_path, config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_demo__its_config_is_one_of_a_run(tmp_path):
    params = load_config(written(tmp_path, demo.CONFIG), "normal", {})
    assert params.layers == demo.LAYERS


def test_demo__a_composite_beyond_the_layers_is_refused(tmp_path):
    path = written(tmp_path, {**demo.CONFIG, "layers": demo.INK_LAYERS[1] - 1})
    with pytest.raises(ParamsError, match="composite_range"):
        load_config(path, "normal", {})
