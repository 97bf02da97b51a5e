"""Write the table of parameters of every guide: ``python -m benchmarks.params_tables``.

A guide marks the place with a line ``<!-- params: tracer.seed_params.SeedParams -->``; everything
from there to ``<!-- end of params -->`` is replaced by a table of the keys, their defaults and what
they mean. A test compares the guides with the classes.
"""

import json
import re
from importlib import import_module
from pathlib import Path

from tracer.params import Params

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(r"(<!-- params: ([\w.]+) -->\n).*?(<!-- end of params -->)", re.DOTALL)


def params_class(name: str) -> type[Params]:
    """Return a params class by its full name."""
    module, _, attribute = name.rpartition(".")
    found: type[Params] = getattr(import_module(module), attribute)
    return found


def params_table(params: type[Params]) -> str:
    """Return the keys of a params class as a table in Markdown."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, field in params.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, (), "") else f"`{json.dumps(default, default=str)}`"
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{key}` | {shown} | {meaning} |")
    if params.ignored_keys:
        names = ", ".join(f"`{key}`" for key in sorted(params.ignored_keys))
        lines += ["", f"VC3D's {names}: accepted with a warning, without effect here."]
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """Return a guide with its tables made anew."""
    return _BLOCK.sub(lambda m: m[1] + params_table(params_class(m[2])) + m[3], text)


def main() -> None:
    """Rewrite the guides whose tables are out of date."""
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := with_tables(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
