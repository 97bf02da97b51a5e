"""`tracer render` killed at any instant, and from a web server."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from strategies import wavy_surface
from web_server import serving

from tracer.render import RenderParams, count_chunks, render_layers, render_surface
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter


@pytest.fixture(scope="module")
def scroll(tmp_path_factory):
    """Return a directory with scan.zarr and a surface of 600 x 800 voxels."""
    root = tmp_path_factory.mktemp("scroll")
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 96)).astype(np.uint8)
    writer = VolumeWriter.create(root / "scan.zarr", array.shape, array.dtype, 8.0, chunk=32)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    surface = wavy_surface(16, 20, step=4.0, origin=(5.0, 30.0, 3.0))
    surface.save(root / "surface")
    return root


def _arguments(scroll, out):
    options = ["--scale", "16", "--layers", "9", "--tile", "64", "--output", "both"]
    return ["render", str(scroll / "scan.zarr"), str(out), str(scroll / "surface"), *options]


@pytest.mark.slow
def test_render__killed_and_started_again_gives_the_same_files(scroll, tmp_path):
    command = [sys.executable, "-m", "tracer.cli.main", "--quiet"]
    subprocess.run([*command, *_arguments(scroll, tmp_path / "whole")], check=True)
    out = tmp_path / "out"
    kills = 0
    for wanted in (1, 20, 60):  # records in the journal before the next kill
        child = subprocess.Popen([*command, *_arguments(scroll, out)])
        journal = out / ".journal"
        record = 8 + 9 * 16 + 4
        while child.poll() is None:
            if journal.exists() and journal.stat().st_size >= wanted * record:
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        child.wait()
    assert kills
    subprocess.run([*command, *_arguments(scroll, out)], check=True)
    for path in sorted((tmp_path / "whole").rglob("*")):
        if path.is_file():
            assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    assert not list(out.glob(".*"))


def test_render_surface__from_a_web_server(scroll, tmp_path):
    surface = Surface.load(scroll / "surface")
    params = RenderParams(layers=5, tile=16)
    expected = render_layers(Volume.open(scroll / "scan.zarr"), surface, params)
    with serving(scroll) as url:
        volume = Volume.open(f"{url}/scan.zarr")
        counted = count_chunks(volume, surface, params)
        result = render_surface(volume, surface, tmp_path / "out", params)
        assert result.chunks_read == counted.reads
        assert result.bytes_read == counted.stored_bytes
        np.testing.assert_array_equal(render_layers(volume, surface, params), expected)
