import json
import math
import re

import pytest

from benchmarks import __main__ as runner
from benchmarks import figures, growth_inputs, readme_table

NAMES = runner.find_benchmarks()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_run__tiniest_cases(name, tmp_path, monkeypatch):
    monkeypatch.setattr(growth_inputs, "WORK", tmp_path)
    module = runner.load_benchmark(name)
    assert module.TINY
    for case in module.TINY:
        found = module.run(case)
        if not found and not growth_inputs.VC3D.is_dir():
            pytest.skip(f"no reference data at {growth_inputs.VC3D}")
        assert found
        numbers = [value for value in found.values() if not isinstance(value, str)]
        assert all(math.isfinite(value) for value in numbers)


def test_find_benchmarks__finds_modules():
    assert {"growth", "spatial_index", "native_ceres"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_labels__tell_cases_apart(name):
    module = runner.load_benchmark(name)
    for cases in (module.CASES, module.TINY):
        assert len(set(runner.labels(cases))) == len(cases)


MADE = {"commit": "c", "date": "d", "quick": False, "seconds": 1.0, "finished": True}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in which benchmarks may write."""
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(runner, "QUICK_OUT", tmp_path / "quick")
    monkeypatch.setattr(runner, "describe_machine", lambda: {"cores": 2, "cpu": "some"})
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/benchmarks.md", "docs/figures.md"):
        (tmp_path / name).write_text("before\n<!-- bench -->\nold\n<!-- end of bench -->\nafter\n")
    return tmp_path


def test_main__keeps_the_figures_of_other_benchmarks(checkout, monkeypatch, capsys):
    cases = {"coverage": {"patches": 12345.6}}
    monkeypatch.setattr(runner, "run_benchmark", lambda name, quick: {**MADE, "cases": cases})
    before = {"machine": {}, "benchmarks": {"render": {**MADE, "cases": {"b": {"x": 0.12345}}}}}
    (checkout / "results.json").write_text(json.dumps(before))
    assert runner.main(["--only", "growth"]) == 0
    written = json.loads((checkout / "results.json").read_text())
    assert set(written["benchmarks"]) == {"render", "growth"}
    guide = (checkout / "docs" / "figures.md").read_text()
    assert "| | coverage |\n|---|---|\n| patches | 12346 |" in guide
    assert "| | b |\n|---|---|\n| x | 0.1235 |" in guide
    assert "(../benchmarks/bench_growth.py)" in guide
    assert guide.startswith("before\n")
    assert guide.endswith("after\n")
    assert "old" not in guide
    assert "2 cores (some)" in (checkout / "README.md").read_text()
    assert "| patches | 12346 |" in capsys.readouterr().out
    page = (checkout / "docs" / "benchmarks.md").read_text()
    assert "[growth](../benchmarks/bench_growth.py) |" in page


def test_main__quick_leaves_the_documents(checkout, monkeypatch):
    monkeypatch.setattr(runner, "run_benchmark", lambda name, quick: {**MADE, "cases": {}})
    assert runner.main(["--only", "growth", "--quick"]) == 0
    assert (checkout / "quick" / "results.md").exists()
    assert "old" in (checkout / "README.md").read_text()
    assert not (checkout / "results.json").exists()


def test_main__fails_where_a_benchmark_does(checkout, monkeypatch):
    failed = {**MADE, "quick": True, "finished": False}
    monkeypatch.setattr(runner, "run_benchmark", lambda name, quick: {**failed, "cases": {"a": {}}})
    assert runner.main(["--only", "growth", "--quick"]) == 1
    text = (checkout / "quick" / "results.md").read_text()
    assert "did not finish" in text
    assert "its data is missing" in text


def test_as_markdown__cases_with_the_same_figures_stand_side_by_side():
    cases = {f"n {k}": {"cpu_s": k / 4, "peak_mb": 100 + k} for k in range(6)}
    cases["other"] = {"name": "text"}
    text = figures.as_markdown({"machine": {}, "benchmarks": {"fuse": {**MADE, "cases": cases}}})
    assert "| | n 0 | n 1 | n 2 | n 3 | n 4 |" in text
    assert "| cpu_s | 0 | 0.25 | 0.5 | 0.75 | 1 |" in text
    assert "| | n 5 |" in text
    assert "| name | text |" in text


def test_rows__every_figure_has_its_script():
    for row in readme_table.ROWS:
        linked = readme_table.scripts_of(row, "benchmarks")
        assert linked, row.label
        for path in re.findall(r"\((.*?)\)", linked):
            assert (runner.ROOT / path).exists()


def test_fill__has_figures_or_a_dash():
    found = {"growth": {"cases": {"a, threads 1": {"x / y, cm2": 0.1234}}}}
    assert readme_table.fill("{growth/a, threads 1/x / y, cm2:.2f} cm²", found) == "0.12 cm²"
    assert readme_table.fill("{growth/a, threads 1/other:.2f} cm²", found) == "-"
    assert readme_table.fill("no figure", found) == "no figure"


def test_documents__show_the_stored_figures():
    results = json.loads(runner.RESULTS.read_text(encoding="utf-8"))
    for path, filled in runner.documents(results).items():
        assert path.read_text(encoding="utf-8") == filled, "run: make bench"


def test_run_benchmark__reports_a_failure(monkeypatch):
    monkeypatch.setattr(runner.sys, "executable", "false")
    entry = runner.run_benchmark("growth", quick=True)
    assert not entry["finished"]
    assert entry["cases"] == {}
