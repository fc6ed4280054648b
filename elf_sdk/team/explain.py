"""What pydantic found, in the words of somebody who has the file open."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from elf_sdk.team.base import Location, shown
from elf_sdk.team.document import Document

__all__ = ["MOST", "explain"]

MOST: Final = 200
"""How many errors of one file are put into words; nobody reads on, and a hostile file can have a million."""

_EMPTY: Final = "it is empty; write a value, or remove the field"


def explain(error: ValidationError, model: type[BaseModel], document: Document) -> list[tuple[Location, str]]:
    """Each error's place in the file, and a sentence that says what to write there."""
    found = []
    for details in error.errors(include_url=False)[:MOST]:
        if details["type"] == "too_short" and details["input"]:
            continue  # the list is not empty: its items are wrong, and each is told by itself
        location: Location = tuple(part for part in details["loc"] if part != "[key]")
        found.append((location, _sentence(details, location, model, document)))
    return found


def _sentence(details: ErrorDetails, location: Location, model: type[BaseModel], document: Document) -> str:
    context = details.get("ctx", {})
    value = details["input"]
    match details["type"]:
        case "missing":
            return f"it is missing; add `{location[-1]}: …`"
        case "extra_forbidden":
            return _unknown_field(str(location[-1]), _fields(model, location[:-1]))
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return _choice(value, re.findall(r"'([^']*)'", str(context["expected"])))
        case "too_short" | "string_too_short":
            return "it is empty; write at least one"
        case "greater_than_equal":
            return f"{shown(value)} is too small; write at least {context['ge']:g}"
        case "less_than_equal":
            return f"{shown(value)} is too large; write at most {context['le']:g}"
        case "finite_number":
            return f"{shown(value)} is not finite; write a number"
        case kind:
            return _wrong_type(kind, value, document.written(location)) or f"{details['msg']}; change it"


def _wrong_type(kind: str, value: object, written: str) -> str:
    if value is None:
        return _EMPTY
    was = _kind(value, written)
    match kind:
        case "string_type" if isinstance(value, bool | int | float):
            return f'{was} is no text; write it in quotes, "{was}"'
        case "string_type":
            return f"{was} is no text; write one text"
        case "int_type" | "int_from_float":
            return f"{was} is no whole number; write one, without quotes"
        case "float_type":
            return f"{was} is no number; write one, without quotes"
        case "bool_type":
            return f"{was} is neither true nor false; write one of them, without quotes"
        case "tuple_type" | "list_type":
            return f"{was} is no list; write one item a line, each after a dash"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{was} has no fields; write fields below it, such as `key: value`"
    return ""


def _kind(value: object, written: str) -> str:
    if isinstance(value, Mapping):
        return "a group of fields"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool | int | float) and written:
        return written if len(written) <= 60 else f"{written[:57]}…"
    return shown(value)


def _choice(value: object, allowed: list[str]) -> str:
    if value is None:
        return _EMPTY
    if len(allowed) == 1:
        return f"{shown(value)} is not known; write {allowed[0]}"
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{shown(value)} is not known; write one of: {', '.join(allowed)}{hint}"


def _unknown_field(name: str, known: list[str]) -> str:
    if name == "<<":
        return "merge keys are no part of YAML 1.2; write the fields out, or use an alias for a whole value"
    if near := difflib.get_close_matches(name.lower(), known, 1, 0.7):
        return f"there is no such field; did you mean {near[0]!r}?"
    return f"there is no such field; the fields here are: {', '.join(known)}"


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """The fields that may stand at `location`, as they are written."""
    here: Any = model
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = next(field.annotation for name, field in here.model_fields.items() if part in (name, field.alias))
        else:
            here = get_args(here)[1 if get_origin(here) is dict else 0]
        here = _bare(here)
    return [field.alias or name for name, field in here.model_fields.items()]


def _bare(annotation: Any) -> Any:
    """`Annotated[X | None, …]` as `X`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    if type(None) in get_args(annotation) and len(inner) == 1:
        return _bare(inner[0])
    return annotation
