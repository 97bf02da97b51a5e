"""From traces to the hidden text by VC3D's commands: winding, fuse, ground, render."""

import dataclasses

import pytest

from benchmarks import vc3d_way
from benchmarks.trace_inputs import Cut, cut_out
from tracer.phantom import Truth


@pytest.mark.slow
def test_vc3d_way__traces_to_text(tmp_path, capsys):
    scroll = tmp_path / "scroll"
    vc3d_way.run("phantom", scroll, "--size", 192, "--level", "easy", "--text", "ROMA")
    whole, _ = cut_out(Truth.load(scroll), Cut(step=10.0, holes=15.0))
    traces, cols = [], whole.shape[1]
    for number, (first, last, turn) in enumerate(((0, 2 * cols // 3, 1), (cols // 3, cols, -1))):
        part = dataclasses.replace(
            whole,
            points_xyz=whole.points_xyz[:, first:last][:, ::turn].copy(),
            valid=whole.valid[:, first:last][:, ::turn].copy(),
        )
        traces.append(part.save(tmp_path / f"trace{number}"))
    out = tmp_path / "out"
    words = [str(out), "--phantom", str(scroll), "--traces", *map(str, traces)]
    figures = vc3d_way.main(words)
    assert figures["of the true surface's"] > 0.9
    assert figures["sheet covered"] > 0.6
    assert (out / "overview.png").exists()
    assert "sheet switches in 0 of 1 surfaces" in capsys.readouterr().out
