"""Values that stand in a file already, changed in one respect and as they are in every other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["in_order", "refitted", "with_difference"]

Values = Mapping[str, Any]


def with_difference(there: Values, before: Values, after: Values) -> dict[str, Any]:
    """`there`, but what differs between `before` and `after` as it is in `after`.

    Args:
        there: values as they stand in a file.
        before: what that file would be.
        after: the same in other circumstances.
    """
    merged = dict(there)
    for key in before.keys() | after.keys():
        old, new, own = before.get(key), after.get(key), there.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping | None) and isinstance(new, Mapping | None) and isinstance(own, Mapping | None):
            merged[key] = with_difference(own or {}, old or {}, new or {})
            if not merged[key]:
                del merged[key]
        elif key in after:
            merged[key] = new
        else:
            merged.pop(key, None)
    return merged


def refitted(there: Values, fresh: Values, known: Values, schema: Values, root: Values | None = None) -> dict[str, Any]:
    """`there` for a chart with another schema: what that does not know goes, what is new comes, the rest stays.

    Args:
        there: values as they stand in a file.
        fresh: what that file would be for that chart.
        known: what has a value already; it need not come from `fresh`.
        schema: JSON Schema of that chart's values, or of a part of them.
        root: the whole schema; default: `schema`.
    """
    whole = schema if root is None else root
    properties = _properties(schema, whole) or {}
    merged: dict[str, Any] = {}
    for key, part in properties.items():
        own, new, old = there.get(key), fresh.get(key), known.get(key)
        inside = _properties(part, whole) is not None
        if key in there and not (inside and isinstance(own, Mapping)):
            merged[key] = own
        elif key not in there and (key not in fresh or (key in known and not inside)):
            continue
        elif key not in there and key not in known:
            merged[key] = new
        else:
            inner = refitted(_mapping(own), _mapping(new), _mapping(old), part, whole)
            if inner or key in there:
                merged[key] = inner
    return merged


def in_order(values: Values, schema: Values, root: Values | None = None) -> dict[str, Any]:
    """`values` in the order of the schema's properties, in which files are written."""
    whole = schema if root is None else root
    properties = _properties(schema, whole) or {}
    ordered = {key: values[key] for key in (*(key for key in properties if key in values), *values)}
    return {
        key: in_order(value, properties[key], whole)
        if isinstance(value, Mapping) and key in properties and _properties(properties[key], whole)
        else value
        for key, value in ordered.items()
    }


def _mapping(value: object) -> Values:
    return value if isinstance(value, Mapping) else {}


def _properties(schema: Values, root: Values) -> Values | None:
    """The properties of an object with keys of its own; None of anything else, such as a map with any keys."""
    reference = str(schema.get("$ref", ""))
    if reference.startswith("#/$defs/"):
        return _properties(root["$defs"][reference.removeprefix("#/$defs/")], root)
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else None
