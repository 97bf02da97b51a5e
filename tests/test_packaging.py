import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_packages__are_all_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    found = {"tracer.kernels", "tracer.cli"}
    for init in (ROOT / "tracer").rglob("__init__.py"):
        found.add(".".join(init.parent.relative_to(ROOT).parts))
    assert sorted(listed) == sorted(found), "add the new package to pyproject.toml"
