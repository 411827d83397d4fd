"""Pages of the docs site that are generated from the code; mkdocs.yml names this file as a hook."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

METHODS = ("get", "post", "put", "delete")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the OpenAPI document itself."""
    document = _openapi()
    pages: dict[str, Callable[[], str]] = {
        "reference/http.md": lambda: http_page(document),
        "reference/fields.md": lambda: fields_page(document),
        "reference/openapi.json": lambda: json.dumps(document, indent=1),
        "reference/settings.md": settings_page,
        "reference/command-line.md": command_line_page,
        "reference/notebook.md": notebook_page,
        "changelog.md": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for path, page in pages.items():
        files.append(File.generated(config, path, content=page()))
    return files


def http_page(document: Mapping[str, Any]) -> str:
    """Return every operation: what it does, its parameters, its body and its answers."""
    lines = [
        "# HTTP operations",
        "",
        "Written from the service's own [OpenAPI document](openapi.json). A running service shows "
        "it at `/docs`. [HTTP fields](fields.md) explains every field.",
    ]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                lines += _operation(path, method, operations[method])
    return "\n".join(lines) + "\n"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"## {method.upper()} {path}", "", operation.get("description", ""), "")
    parameters = operation.get("parameters", [])
    if parameters:
        yield from ("| parameter | in | type | meaning |", "|---|---|---|---|")
        for each in parameters:
            kind = _type(each.get("schema", {}))
            told = each.get("description") or each.get("schema", {}).get("description", "")
            yield f"| `{each['name']}` | {each['in']} | {kind} | {_cell(told)} |"
        yield ""
    body = operation.get("requestBody", {}).get("content", {})
    for media, content in body.items():
        yield f"Body ({media}): {_type(content.get('schema', {}))}"
        yield ""
    yield from ("| status | answer |", "|---|---|")
    for status, response in operation["responses"].items():
        kinds = {_type(each.get("schema", {})) for each in response.get("content", {}).values()}
        told = _cell(response.get("description", ""))
        yield f"| {status} | {told} {' '.join(sorted(kinds - {'any'}))} |"


def fields_page(document: Mapping[str, Any]) -> str:
    """Return a table of fields for every schema, with type, default and meaning."""
    meanings = yaml.safe_load((ROOT / "scripts/field_meanings.yaml").read_text(encoding="utf-8"))
    lines = ["# HTTP fields", "", "Written from the schemas that read requests and write answers."]
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" not in schema:
            continue
        lines += ["", f"## {name}", "", schema.get("description", ""), ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        required = set(schema.get("required", ()))
        lines += [
            f"| `{field}` | {_type(facts)} | {_default(facts, field in required)} | "
            f"{_cell(facts.get('description') or meanings.get(field, ''))} |"
            for field, facts in schema["properties"].items()
        ]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Return every setting of the service, by group."""
    from budsim.commons.config import GROUPS

    lines = [
        "# Settings",
        "",
        "Read from environment variables and from a file `.env` in the working directory; start "
        "from `.env.sample`. A bad value ends the start with one line that names it.",
    ]
    for group in GROUPS.values():
        lines += ["", f"## {(group.__doc__ or '').strip().splitlines()[0]}", ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        for name, facts in group.model_fields.items():
            told = _cell((facts.description or "") + _bounds(facts.metadata))
            lines.append(f"| `{name.upper()}` | {_shown(facts.default)} | {told} |")
    return "\n".join(lines) + "\n"


def command_line_page() -> str:
    """Return every command with its options, as `budsim COMMAND --help` has them."""
    from typer.main import get_command

    from budsim.cli.app import app

    lines = ["# Command line", "", "Exit codes: 0, 2 for bad input, 130 for Ctrl-C, 1 otherwise."]
    commands: Mapping[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        lines += ["", f"## budsim {name}", "", _cell(command.help or ""), ""]
        lines += ["| option | default | meaning |", "|---|---|---|"]
        for option in command.params:
            spelled = ", ".join(f"`{each}`" for each in option.opts)
            told = _cell(getattr(option, "help", "") or "")
            default = "required" if option.required else _shown(option.default)
            lines.append(f"| {spelled} | {default} | {told} |")
    return "\n".join(lines) + "\n"


def notebook_page() -> str:
    """Return the executed notebook as Markdown; CI runs it and refuses a stale copy."""
    document = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    parts = [
        "This page is `docs/notebook.ipynb`, which CI executes.",
    ]
    for cell in document["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [shown for each in cell["outputs"] if (shown := _output(each))]
    return "\n\n".join(parts) + "\n"


def _output(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```" if text else ""


def _openapi() -> dict[str, Any]:
    from budsim.main import create_app

    document: dict[str, Any] = create_app().openapi()
    return document


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema's type in words; named schemas are links to their table."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](fields.md#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _default(facts: Mapping[str, Any], is_required: bool) -> str:
    return "required" if is_required else _shown(facts.get("default"))


def _shown(default: object) -> str:
    if default is None or default == "" or callable(default) or "Undefined" in repr(default):
        return ""
    secret = getattr(default, "get_secret_value", None)
    return f"`{secret() if secret else default}`".replace("\n", " ")


def _bounds(metadata: list[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {value}"
        for rule in metadata
        for name, sign in signs.items()
        if (value := getattr(rule, name, None)) is not None
    ]
    return f" ({', '.join(found)})" if found else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
