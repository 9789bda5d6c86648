"""Write docs/api.md, the description of the service's requests, from the service's own OpenAPI
document.

    python3 Scripts/api.py            write it
    python3 Scripts/api.py --check    exit code 1 where it is not what the service says
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
HEAD = """# The service's requests

Written by `python3 Scripts/api.py` from the OpenAPI document that every service gives at `/v1/openapi.json`. How to run
one: [On another computer](remote.md).

Every request carries `Authorization: Bearer TOKEN`. Every error has one shape: `code` for programs, `message` and
`hint` for people, and `details`. From Python, `alunet.agent.client.Client` sends each request by its
name; path, query and fields of the body are its arguments, and the answer is a typed object:

```python
from alunet.agent.client import Client
from alunet.schema import Operations
client = Client("http://127.0.0.1:8000", "TOKEN")
for row in client.call(Operations.worklist, project="liver"):
    print(row.rank, row.case, row.slice, row.status)
```
"""  # noqa: E501 - a page of its own width


def openapi() -> dict[str, Any]:
    """The document of a service on an empty folder."""
    sys.path.insert(0, str(ROOT / "ALUNetSlicer"))
    from alunet.serve.app import build
    from alunet.serve.settings import ServiceSettings
    from alunet.serve.state import State

    with tempfile.TemporaryDirectory() as folder:
        state = State(ServiceSettings(Path(folder), "token"))
        try:
            return build(state).openapi()
        finally:
            state.close()


def page(document: dict[str, Any]) -> str:
    """The document for people: requests, then the bodies that they name."""
    lines = [HEAD, "## Requests", "", "| request | gives | what it does |", "| --- | --- | --- |"]
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            lines.append(
                f"| `{method.upper()} {_address(path, about)}` | {_answer(about)} | "
                f"{about['description']} |"
            )
    lines += ["", "## Bodies", ""]
    for name, about in sorted(document["components"]["schemas"].items()):
        if not name.startswith(("HTTPValidation", "Validation")):
            fields = [
                f"`{field}`: {_kind(shape)}" for field, shape in about.get("properties", {}).items()
            ]
            fields = fields or [f"`{value}`" for value in about.get("enum", [])]
            lines.append(f"* **{name}**: {', '.join(fields)}")
    return "\n".join(lines) + "\n"


def _address(path: str, about: dict[str, Any]) -> str:
    names = [part["name"] for part in about.get("parameters", []) if part["in"] == "query"]
    return path + (f"?{'&'.join(names)}" if names else "")


def _answer(about: dict[str, Any]) -> str:
    """Status and body of a success."""
    found = []
    for status, answer in about["responses"].items():
        if status.startswith("2"):
            bodies = answer.get("content", {})
            shape = next(iter(bodies.values()), {}).get("schema", {})
            found.append(f"{status} {_kind(shape)}" if bodies else status)
    return ", ".join(found)


def _kind(shape: dict[str, Any]) -> str:
    """A type in a word or two."""
    if "$ref" in shape:
        return shape["$ref"].rsplit("/", 1)[1]
    if "anyOf" in shape:
        return " or ".join(_kind(part) for part in shape["anyOf"])
    if shape.get("type") == "array":
        return f"list of {_kind(shape.get('items', {}))}"
    if shape.get("format") in ("binary", "byte"):
        return "bytes"
    return {"null": "null", "object": "object"}.get(
        shape.get("type", ""), shape.get("type", "JSON")
    )


def main() -> int:
    """Write the page, or compare it."""
    text = page(openapi())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8", newline="\n")
        return 0
    if PAGE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("docs/api.md is not what the service says. Type: python3 Scripts/api.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
