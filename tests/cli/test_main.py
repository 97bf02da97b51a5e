import subprocess
import sys


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_import__loads_no_heavy_package():
    heavy = ["numba", "scipy", "open3d", "zarr", "pyceres", "tifffile"]
    code = f"import sys, tracer, tracer.cli.main; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_help__lists_commands_without_importing_them():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom tracer.cli.main import tracer\n"
        "out = CliRunner().invoke(tracer, ['--help'])\n"
        "print(out.exit_code, 'seed' in out.output, 'tracer.cli.seed' in sys.modules)"
    )
    assert run_python(code).split() == ["0", "True", "False"]
