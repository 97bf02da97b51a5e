import json
import math

import pytest

from benchmarks import __main__ as runner
from benchmarks import growth_inputs

NAMES = runner.find_benchmarks()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_run__tiniest_cases(name, tmp_path, monkeypatch):
    monkeypatch.setattr(growth_inputs, "WORK", tmp_path)
    module = runner.load_benchmark(name)
    assert module.TINY
    for case in module.TINY:
        figures = module.run(case)
        assert figures
        numbers = [value for value in figures.values() if not isinstance(value, str)]
        assert all(math.isfinite(value) for value in numbers)


def test_find_benchmarks__finds_modules():
    assert {"growth", "spatial_index", "native_ceres"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_labels__tell_cases_apart(name):
    module = runner.load_benchmark(name)
    for cases in (module.CASES, module.TINY):
        assert len(set(runner.labels(cases))) == len(cases)


def test_main__keeps_the_figures_of_other_benchmarks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "OUT", tmp_path)
    made = {"commit": "c", "date": "d", "quick": False, "seconds": 1.0, "finished": True}
    monkeypatch.setattr(
        runner, "run_benchmark", lambda name, quick: {**made, "cases": {"a": {name: 12345.6}}}
    )
    before = {"machine": {}, "benchmarks": {"render": {**made, "cases": {"b": {"x": 0.12345}}}}}
    (tmp_path / "results.json").write_text(json.dumps(before))
    assert runner.main(["--only", "growth"]) == 0
    written = json.loads((tmp_path / "results.json").read_text())
    assert set(written["benchmarks"]) == {"render", "growth"}
    table = (tmp_path / "results.md").read_text()
    assert "| a | growth | 12346 |" in table
    assert "| b | x | 0.1235 |" in table
    assert table in capsys.readouterr().out


def test_main__fails_where_a_benchmark_does(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "OUT", tmp_path)
    failed = {"commit": "c", "date": "d", "quick": True, "seconds": 1.0, "finished": False}
    monkeypatch.setattr(runner, "run_benchmark", lambda name, quick: {**failed, "cases": {"a": {}}})
    assert runner.main(["--only", "growth", "--quick"]) == 1
    text = (tmp_path / "results.md").read_text()
    assert "did not finish" in text
    assert "its data is missing" in text


def test_run_benchmark__reports_a_failure(monkeypatch):
    monkeypatch.setattr(runner.sys, "executable", "false")
    entry = runner.run_benchmark("growth", quick=True)
    assert not entry["finished"]
    assert entry["cases"] == {}
