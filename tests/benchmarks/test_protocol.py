"""The evaluation protocol, from a phantom to its ranked table, and that it goes on."""

import json

import numpy as np
import pytest

from benchmarks import protocol, protocol_figures
from tracer.atomic import write_json
from tracer.surface import Surface


def flat(x=50.0):
    r, c = np.indices((5, 6), dtype=np.float64)
    points = np.stack([x + 20 * c, 50 + 20 * r, np.full_like(r, 60.0)], axis=-1)
    return Surface(
        points_xyz=points.astype(np.float32), valid=np.ones((5, 6), bool), scale=(0.05, 0.05)
    )


def test_best_patches__sound_and_large_and_beside_each_other(tmp_path):
    for name in "abcd":
        flat().save(tmp_path / name)
    write_json(tmp_path / "a" / "overlapping.json", {"overlapping": ["b"]})
    areas = {"a": ("pass", 9.0), "b": ("warn", 8.0), "c": ("pass", 7.0), "d": ("fail", 99.0)}
    report = {
        "checked": [
            {"name": name, "verdict": verdict, "figures": {"area_vx2": area}}
            for name, (verdict, area) in areas.items()
        ]
    }
    report["checked"].append({"name": "broken", "verdict": "fail", "figures": {}})
    assert protocol.best_patches(tmp_path, report, 2) == ["a", "c"]
    assert protocol.best_patches(tmp_path, report, 9) == ["a", "c", "b", "d"]


def test_ranked__what_jumps_comes_last():
    def row(name, good, jumps=0, crossing=0):
        return {
            "name": name,
            "good_cm2": good,
            "area_cm2": 2.0,
            "jumps": jumps,
            "self_intersections": crossing,
            "cpu_s": 4.0,
        }

    rows = [row("a", 1.0), row("b", 9.0, jumps=1), row("c", 2.0), row("d", 5.0, crossing=3)]
    found = protocol_figures.ranked(rows)
    assert [one["name"] for one in found] == ["c", "a", "b", "d"]
    assert found[0]["cpu_s_per_cm2"] == 2.0


def test_as_markdown__has_a_dash_for_what_is_not_known():
    row = {"name": "vc3d", "good_cm2": 1.0, "area_cm2": 1.25, "jumps": 0, "self_intersections": 0}
    patches = {"surfaces": 3, "area_cm2": 2.0, "prediction_coverage": 0.5}
    text = protocol_figures.as_markdown(
        {
            "truth": False,
            "steps": {"seed": {"cpu_s": 3.0, "memory_mb": 200.0}},
            "patches": patches,
            "all traces": {},
            "ranked": protocol_figures.ranked([row]),
        }
    )
    assert "patches: 3 surfaces, 2.00 cm², cover 0.500 of the prediction." in text
    assert "all traces: none." in text
    assert "| 1 | vc3d | 1.25 | 1.00 | - |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


@pytest.mark.slow
def test_protocol__from_a_phantom_to_a_table_and_on_after_an_interruption(tmp_path, capsys):
    out = tmp_path / "out"
    for name, values in (
        ("seed", {"generations": 8, "min_area_cm": 0.001}),
        ("trace", {"step": 2}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    words = [str(out), "--phantom", "easy", "--size", "160", "--seeds", "2", "--expansions", "6"]
    words += ["--traces", "1", "--workers", "1"]
    words += ["--seed-params", str(tmp_path / "seed.json")]
    words += ["--trace-params", str(tmp_path / "trace.json")]
    result = protocol.main(words)
    assert result["patches"]["surfaces"] >= 2
    assert result["patches"]["coverage"] > 0
    assert result["ranked"]
    best = result["ranked"][0]
    assert best["switch_rate"] == 0
    assert best["on_prediction"] > 0.9
    assert best["ct_support"] > 0.9
    assert 0 < best["prediction_coverage"] <= 1
    assert best["cpu_s_per_cm2"] > 0
    assert "| 1 |" in (out / "protocol.md").read_text()

    first = json.loads((out / "protocol.json").read_text())
    steps = json.loads((out / "steps.json").read_text())
    lost = next(name for name in steps if name.startswith("winding"))
    write_json(out / "steps.json", {name: step for name, step in steps.items() if name != lost})
    capsys.readouterr()
    protocol.main(words)
    printed = capsys.readouterr().out
    assert printed.count("$ tracer") == 1
    assert "$ tracer winding" in printed
    again = json.loads((out / "protocol.json").read_text())
    assert again["ranked"] == first["ranked"]
