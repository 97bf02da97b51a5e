import re

import pytest

from benchmarks import params_tables

PAGES = sorted(params_tables.DOCS.glob("*.md"))
ROOT = params_tables.DOCS.parent
IDS = [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_params_tables__are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    assert params_tables.with_tables(text) == text, "run: python -m benchmarks.params_tables"


def test_params_table__lists_keys_defaults_and_ignored_keys():
    seed = params_tables.params_class("tracer.seed_params.SeedParams")
    table = params_tables.params_table(seed)
    assert "| `step_size` | `20.0` | voxels between vertices |" in table
    assert "`search_effort`: accepted with a warning" in table


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=[*IDS, "README"])
def test_links_and_pictures__exist(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target
