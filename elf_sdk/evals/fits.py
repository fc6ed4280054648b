"""Whether an answer is JSON of a certain shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from elf_sdk.errors import Missing

if TYPE_CHECKING:
    import jsonschema_rs

__all__ = ["broken_schema", "misfit"]

_FENCED: Final = re.compile(r"^```[ \t]*(?:json)?[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE)


def broken_schema(schema: Mapping[str, Any]) -> str:
    """Why `schema` is no JSON Schema (draft 2020-12); empty where it is one.

    Raises:
        Missing: jsonschema-rs is not installed.
    """
    try:
        _validator(schema)
    except ValueError as error:  # the package's own errors are of this kind
        return str(error).splitlines()[0]
    return ""


def misfit(answer: str, schema: Mapping[str, Any]) -> str:
    """Why `answer` does not fit `schema`; empty where it does.

    The answer is JSON as a whole, or holds one fenced block that is.

    Raises:
        Missing: jsonschema-rs is not installed.
    """
    blocks = _FENCED.findall(answer)
    text = blocks[0] if len(blocks) == 1 else answer
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"it is no JSON: {error}"
    first = next(iter(_validator(schema).iter_errors(value)), None)
    if first is None:
        return ""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.instance_path)
    return f"{place.lstrip('.')}: {first.message}" if place else first.message


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    try:
        import jsonschema_rs  # not every command that reads evals has a schema in them
    except ImportError:
        raise Missing("matches_schema needs jsonschema-rs; install it with: pip install 'elf-sdk[tools]'") from None
    return jsonschema_rs.Draft202012Validator(dict(schema), retriever=_nothing_is_fetched)


def _nothing_is_fetched(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched; write what it says below $defs")
