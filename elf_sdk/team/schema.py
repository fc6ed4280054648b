"""The format of the two files for machines and for people: JSON Schema, and the reference page.

Both come from the models, so a field is described once. An editor with yaml-language-server uses the schema by a
first line such as `# yaml-language-server: $schema=team.schema.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from elf_sdk.team.described import Described
from elf_sdk.team.organisation import Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["file_schema", "organisation_schema", "reference_markdown", "schema_markdown", "team_schema"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Untitled(Described):
    """Without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def team_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `team.yaml`."""
    return file_schema(TeamSpec, "urn:elf:v1:team", "team.yaml of ELF")


def organisation_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `elf.yaml`."""
    return file_schema(Organisation, "urn:elf:v1:organisation", "elf.yaml of ELF")


def file_schema(model: type[BaseModel], identity: str, title: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a file that holds what `model` says.

    Args:
        model: of the whole file.
        identity: `$id` of the schema, a URN.
        title: what the file is.
    """
    body = model.model_json_schema(by_alias=True, schema_generator=_Untitled)
    _close(body)
    return {"$schema": _DIALECT, "$id": identity, **body, "title": title}


def _close(schema: Any) -> None:
    """Refuse keys that match no pattern, as the models do."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


def reference_markdown() -> str:
    """The page `docs/reference/team-yaml.md`: every field with its type, default and meaning."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    yield "# team.yaml and elf.yaml"
    yield ""
    yield "Generated from the models by `elf_sdk.team.schema.reference_markdown`; a test says when it is out of date."
    yield ""
    yield "Unknown fields are refused, and so are YAML 1.1's readings of `yes`, `no`, `on` and dates: they are text."
    yield "Lengths are in characters. `elf check` checks both files offline, and `elf schema` prints their JSON Schema."
    yield "For completion and errors while you type, in an editor that has yaml-language-server:"
    yield ""
    yield "```sh"
    yield "elf schema team > team.schema.json"
    yield "```"
    yield ""
    yield "and as the first line of a team.yaml:"
    yield ""
    yield "```yaml"
    yield "# yaml-language-server: $schema=../../team.schema.json"
    yield "```"
    for heading, schema in (("team.yaml", team_schema()), ("elf.yaml", organisation_schema())):
        yield from _described(heading, schema)
    yield ""


def schema_markdown(heading: str, schema: Mapping[str, Any]) -> str:
    """A part of a page: every field of a file, with its type, default and meaning, below `## heading`."""
    return "\n".join([*_described(heading, schema), ""])


def _described(heading: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {heading}"
    yield ""
    yield from _section(schema, schema)
    for path, name in _nested(schema).items():
        yield ""
        yield f"### {path}"
        yield ""
        yield from _section(schema["$defs"][name], schema)


def _nested(schema: Mapping[str, Any]) -> dict[str, str]:
    """Each group of fields once, by the first place where it stands."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Mapping[str, Any]]] = [("", schema)]
    while waiting:
        prefix, here = waiting.pop(0)
        inner = []
        for field, value in here.get("properties", {}).items():
            for name, suffix in _references(value):
                if name not in found.values():
                    path = f"{prefix}{field}{suffix}"
                    found[path] = name
                    inner.append((f"{path}.", schema["$defs"][name]))
        waiting = inner + waiting
    return found


def _references(value: Mapping[str, Any], suffix: str = "") -> Iterator[tuple[str, str]]:
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], suffix
    for part in value.get("anyOf", ()):
        yield from _references(part, suffix)
    if isinstance(value.get("items"), dict):
        yield from _references(value["items"], f"{suffix}[]")
    for part in value.get("patternProperties", {}).values():
        yield from _references(part, f"{suffix}.<name>")


def _section(model: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    yield model.get("description", "")
    yield ""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    required = model.get("required", ())
    for field, value in model["properties"].items():
        default = "required" if field in required else _default(value)
        meaning = _cell(value.get("description") or _group(value, schema))
        yield f"| `{field}` | {_cell(_type(value, schema))} | {_cell(default)} | {meaning} |"


def _group(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The group's own description, which is not repeated at a field that has the same one."""
    return next((str(schema["$defs"][name]["description"]) for name, _ in _references(value)), "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ([], {}, "") or "$ref" in value:
        return ""
    return f"`{json.dumps(default, ensure_ascii=False)}`" if not isinstance(default, str) else f"`{default}`"


def _type(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in value:
        return "fields"
    if "anyOf" in value:
        parts = [_type(part, schema) for part in value["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"list of {_type(value.get('items', {}), schema)}"
    if kind == "object" and "title" in value:
        return str(value["title"])
    if kind == "object":
        inner: Mapping[str, Any] = next(iter(value.get("patternProperties", {}).values()), {})
        return f"name → {_type(inner, schema)}"
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _bounds(value)
    if kind == "boolean":
        return "true or false"
    return _text(value)


def _bounds(value: Mapping[str, Any]) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    if low is not None and high is not None:
        return f" {low} to {high}"
    return f" ≥ {low}" if low is not None else ""


def _text(value: Mapping[str, Any]) -> str:
    kind = str(value.get("title", "text"))
    return f"{kind} ≤ {value['maxLength']}" if value.get("maxLength", 0) >= 200 else kind
