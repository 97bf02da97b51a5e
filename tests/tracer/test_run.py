import json

import pytest
from command_lines import check

from tracer.atomic import write_json
from tracer.cli.main import main
from tracer.errors import NothingFoundError, ParamsError
from tracer.phantom.generate import make_phantom
from tracer.phantom.params import PhantomParams
from tracer.run import Inputs, RunParams, RunState, load_config, make_plan
from tracer.run.estimate import estimate
from tracer.run.plan import Step, resolve, until
from tracer.run.state import annotations


def run_tracer(*arguments):
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_load_config__preset_file_and_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seeds: 5\nseed: {min_area_cm: 0.01}\n")
    params = load_config(path, "quick", {"layers": 3})
    assert (params.seeds, params.layers, params.coverage) == (5, 3, 0.8)
    assert params.seed == {"min_area_cm": 0.01}
    (tmp_path / "run.json").write_text('{"sedes": 5}')
    with pytest.raises(ParamsError, match="seeds"):
        load_config(tmp_path / "run.json", "quick", {})
    path.write_text("[1, 2")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_config(path, "quick", {})
    with pytest.raises(ParamsError, match="unknown"):
        load_config(None, "slow", {})


def test_load_config__refuses_a_stages_parameters_before_anything_runs(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("trace: {stepp: 3}\n")
    with pytest.raises(ParamsError, match=r"run.yaml: trace: unknown key 'stepp'.*step"):
        load_config(path, "quick", {})
    with pytest.raises(ParamsError, match="way"):
        load_config(None, "quick", {"way": "tracing"})


@pytest.mark.parametrize(
    ("way", "middle"),
    [("unroll", ["unroll"]), ("trace", ["trace", "trace-back", "winding", "fuse", "ground"])],
)
def test_make_plan__depends_on_what_there_is(tmp_path, way, middle):
    params = RunParams(way=way, umbilicus="axis.json")
    given = (
        Inputs(prediction="p.zarr"),
        Inputs(prediction="p.zarr", ct="c.zarr"),
        Inputs(ct="c.zarr"),
        Inputs(files="slices"),
    )
    names = [[s.name for s in make_plan(params, tmp_path, inputs=one)] for one in given]
    assert names[0] == ["seed", "expand", *middle, "check"]
    assert names[1] == ["seed", "expand", *middle, "render", "check"]
    assert names[2] == ["predict", *names[1]]
    assert names[3] == ["prepare", *names[2]]
    steps = make_plan(params, tmp_path, inputs=given[0])
    assert [step.name for step in until(steps, "expand")] == ["seed", "expand"]
    with pytest.raises(ParamsError, match="has only seed"):
        until(steps, "render")
    with pytest.raises(ParamsError, match="neither"):
        make_plan(params, tmp_path, inputs=Inputs())


@pytest.mark.parametrize("way", ["unroll", "trace"])
def test_make_plan__commands_parse(tmp_path, way):
    params = RunParams(way=way, umbilicus="axis.json")
    for dask in (None, "scheduler.json"):
        steps = make_plan(params, tmp_path, inputs=Inputs(files="slices"), workers=3, dask=dask)
        for step in steps:
            check(["tracer", *step.words])
        on_dask = {step.name for step in steps if "--dask" in step.words}
        assert on_dask >= ({"predict", "seed", "expand", "render"} if dask else set())
        assert ("fuse" in on_dask) == (way == "trace" and dask is not None)


def test_resolve__names_what_is_known_only_then(tmp_path):
    paths = tmp_path / "paths"
    for name, area, tags in (("a", 3.0, {}), ("b", 9.0, {"defective": {}}), ("c", 5.0, {})):
        (paths / name).mkdir(parents=True)
        write_json(paths / name / "meta.json", {"area_vx2": area, "tags": tags})
    (tmp_path / "fused" / "fuse_fill_1").mkdir(parents=True)
    words = ["ground", str(tmp_path / "fused" / "fuse_fill_*"), str(paths / "<largest patch>")]
    found = [str(tmp_path / "fused" / "fuse_fill_1"), str(paths / "c")]
    assert resolve(words, paths) == ["ground", *found]
    with pytest.raises(NothingFoundError, match="nothing was made"):
        resolve([str(tmp_path / "grounded" / "grounding_hr_*")], paths)
    with pytest.raises(NothingFoundError, match="no patch"):
        resolve(words, tmp_path / "none")


def test_run_state__knows_what_depends_on_what(tmp_path):
    write_json(tmp_path / "seed.json", {"a": 1})
    words = ("seed", "p.zarr", str(tmp_path / "seed.json"), "--workers", "2")
    first = Step(name="seed", words=words, needs=(), writes=tmp_path)
    second = Step(name="expand", words=("expand",), needs=("seed",), writes=tmp_path)
    state, inputs = RunState(tmp_path), {"p.zarr": "one"}
    before = state.digest(first, inputs), state.digest(second, inputs)
    state.finish(first, before[0])
    assert state.is_done(first, before[0])
    assert RunState(tmp_path).is_done(first, before[0])
    assert state.digest(second, inputs) != before[1]
    more = Step(name="seed", words=(*words[:-1], "8"), needs=(), writes=tmp_path)
    assert state.digest(more, inputs) == before[0]
    assert state.digest(first, {"p.zarr": "other"}) != before[0]
    write_json(tmp_path / "seed.json", {"a": 2})
    assert state.digest(first, inputs) != before[0]
    state.begin(first, before[0])
    again = RunState(tmp_path)
    assert not again.is_done(first, before[0])
    assert again.is_begun(first, before[0])
    assert not again.is_begun(first, "other")
    cluster = Step(name="seed", words=(*words[:-2], "--dask", "a:1"), needs=(), writes=tmp_path)
    assert state.digest(cluster, inputs) == state.digest(first, inputs)


def test_annotations__are_tags_and_masks(tmp_path):
    for name, tags in (("a", {}), ("b", {"approved": {}})):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "meta.json", {"tags": tags})
    assert annotations(tmp_path) == [["b", "approved"]]
    (tmp_path / "a" / "mask.tif").write_bytes(b"1")
    assert [line[0] for line in annotations(tmp_path)] == ["a", "b"]


def test_estimate__is_linear_in_the_area():
    common = {"n_chunks": 1000, "voxel_size_um": 7.91, "layers": 21, "overlap": 5.0}
    one = estimate(sheet_cm2=1.0, **common)
    ten = estimate(sheet_cm2=10.0, **common)
    for stage, hours in one.cpu_hours.items():
        assert ten.cpu_hours[stage] == pytest.approx(10 * hours)
    assert one.patch_cm2 == 5.0
    assert "CPU hours" in one.summary()


@pytest.mark.slow
def test_run__whole_continued_and_redone(tmp_path, capsys):
    make_phantom(
        tmp_path / "scroll", PhantomParams(size_zyx=(160, 160, 160), level="easy", rng_seed=1)
    )
    config = tmp_path / "run.yaml"
    config.write_text(
        "seeds: 6\npatches: 10\nlayers: 3\nseed: {min_area_cm: 0.002, generations: 12}\n"
    )
    out = tmp_path / "out"
    words = [
        "run",
        tmp_path / "scroll" / "prediction.zarr",
        "--ct",
        tmp_path / "scroll" / "ct.zarr",
    ]
    words += ["-o", out, "-c", config]
    assert run_tracer(*words, "--dry-run") == 0
    assert not out.exists()
    assert run_tracer(*words, "--stop-after", "expand") == 0
    assert not (out / "unrolled").exists()
    capsys.readouterr()
    assert run_tracer(*words) == 0
    assert "seed: done before" in capsys.readouterr().out
    for made in ("unrolled/x.tif", "layers/00.tif", "check.html", "report.html", "logs/unroll.log"):
        assert (out / made).exists(), made
    assert "data:image/jpeg" in (out / "report.html").read_text()
    before = json.loads((out / "unrolled" / "meta.json").read_text())["counts"]["patches"]
    patch = next((out / "paths").glob("auto_grown_*"))
    assert run_tracer("tag", patch, "defective") == 0
    capsys.readouterr()
    assert run_tracer(*words) == 0
    printed = capsys.readouterr().out
    assert "expand: done before" in printed
    assert "$ tracer unroll" in printed
    after = json.loads((out / "unrolled" / "meta.json").read_text())["counts"]["patches"]
    assert after == before - 1
    config.write_text(config.read_text().replace("0.002", "0.003"))
    assert run_tracer(*words) == 2
    assert "was grown with other parameters" in capsys.readouterr().err
    assert json.loads((out / "run.json").read_text())["format"] == "tracer-run"
