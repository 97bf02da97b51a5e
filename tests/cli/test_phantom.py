import json

import pytest
from click.testing import CliRunner

from tracer.cli.main import main, tracer
from tracer.cli.phantom import phantom
from tracer.cli.score import score
from tracer.errors import ParamsError
from tracer.phantom import PhantomParams, Truth


@pytest.fixture(scope="module")
def scroll(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "scroll"
    arguments = ["phantom", str(folder), "--size", "128,128,136", "--level", "easy"]
    run = CliRunner().invoke(tracer, [*arguments, "--text", "HELLO", "--rng-seed", "3"])
    assert run.exit_code == 0, run.output
    assert "wraps" in run.output
    return folder


def test_phantom__is_the_same_as_the_api(scroll):
    written = json.loads((scroll / "truth.json").read_text())
    expected = PhantomParams(size_zyx=(128, 128, 136), level="easy", text="HELLO", rng_seed=3)
    assert written["params"] == expected.effective()
    assert Truth.load(scroll).size_zyx == (128, 128, 136)


def test_score__prints_text_or_json(scroll, tmp_path):
    Truth.load(scroll).recto_surface(6.0).save(tmp_path / "true")
    arguments = ["score", str(tmp_path / "true"), "--truth", str(scroll)]
    run = CliRunner().invoke(tracer, arguments)
    assert run.exit_code == 0, run.output
    assert "sheet switches in 0 of 1" in run.stdout
    run = CliRunner().invoke(tracer, ["-q", *arguments, "--json"])
    found = json.loads(run.stdout)
    assert found["coverage"] > 0.97
    assert found["surfaces"][0]["name"] == "true"


@pytest.mark.parametrize("size", ["1,2", "big", "-5", "300,300", "64"])
def test_phantom__refuses_a_size_in_one_line(size, tmp_path):
    run = CliRunner().invoke(tracer, ["phantom", str(tmp_path / "x"), f"--size={size}"])
    assert isinstance(run.exception, ParamsError)
    assert "\n" not in str(run.exception)
    assert not (tmp_path / "x").exists()


def test_score__without_truth_exits_with_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["score", str(tmp_path), "--truth", str(tmp_path / "nowhere")])
    assert end.value.code == 2
    assert "cannot read truth" in capsys.readouterr().err


def test_examples_in_help__run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = phantom.epilog.splitlines()[-1].split()
    assert example[:3] == ["tracer", "phantom", "scroll"]
    # A smaller scroll than in the example, since only its options are tried.
    example[example.index("--size") + 1] = "100"
    assert CliRunner().invoke(tracer, example[1:]).exit_code == 0
    Truth.load(tmp_path / "scroll").recto_surface(8.0).save(tmp_path / "scroll" / "paths" / "a")
    example = score.epilog.splitlines()[-1].split()
    assert CliRunner().invoke(tracer, example[1:]).exit_code == 0
