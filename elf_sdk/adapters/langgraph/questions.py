"""A graph's interrupts as questions to a person, and the person's answers as what the graph goes on with. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

__all__ = ["Asked", "prompt", "resumed"]

_ASKING: Final = ("question", "prompt", "message", "description", "text", "title")
"""Where authors put what a person reads, the likeliest first."""
_CHOICES: Final = ("choices", "options", "allowed_decisions")
_YES: Final = frozenset({"approve", "approved", "accept", "yes", "y", "ok"})
_NO: Final = frozenset({"reject", "rejected", "no", "n", ""})


class Asked(Protocol):
    """What LangGraph's `Interrupt` has of interest here.

    Attributes:
        value: what the author gave to `interrupt`.
        response_schema: what an answer looks like, where the author said so.
    """

    value: Any
    response_schema: Any


def prompt(asked: Asked) -> str:
    """What a person reads: a text as it is; the likeliest field of a mapping, with its choices; else JSON."""
    value = asked.value
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if actions := _actions(value):
            return _review(value, actions)
        if value.get("type") == "tool_approval":
            return "\n".join([_action(value), f"Answer with {_either(_decisions(asked.response_schema))}."])
        for name in _ASKING:
            if isinstance(value.get(name), str) and value[name]:
                return "\n".join([value[name], *_offered(value)])
    return _json(value)


def resumed(asked: Asked, answer: str) -> Any:
    """What `interrupt` is to return for a person's answer.

    Text stays text. Where the question was structured, or its author said what an answer looks like, JSON is decoded;
    and LangChain's questions whether a tool may be called (`HumanInTheLoopMiddleware`) take plain words too: `approve`
    or `reject` for each, and anything else as the reason why not.
    """
    value, schema = asked.value, asked.response_schema
    if isinstance(value, str) and schema is None:
        return answer
    decoded = _decoded(answer)
    if isinstance(decoded, dict | list):
        return decoded
    if isinstance(value, Mapping):
        if actions := _actions(value):
            return {"decisions": [_decision(answer) for _ in actions]}
        if value.get("type") == "tool_approval":
            return _decision(answer)
    # A number that somebody types is a text, unless a schema says that it is none.
    return answer if schema is None or decoded is None else decoded


def _decision(answer: str) -> dict[str, str]:
    word = answer.strip().lower().rstrip(".!")
    if word in _YES:
        return {"type": "approve"}
    reason = answer.strip()
    for no in ("reject:", "reject ", "no:", "no,"):
        if word.startswith(no):
            reason = answer.strip()[len(no) :].strip()
    return {"type": "reject"} if word in _NO or not reason else {"type": "reject", "message": reason}


def _actions(value: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    actions = value.get("action_requests")
    if isinstance(actions, list) and all(isinstance(action, Mapping) for action in actions):
        return actions
    return ()


def _review(value: Mapping[str, Any], actions: Sequence[Mapping[str, Any]]) -> str:
    configs = value.get("review_configs")
    allowed: list[str] = []
    for config in configs if isinstance(configs, list) else ():
        allowed += [one for one in config.get("allowed_decisions", ()) if one not in allowed]
    each = ", for all of them," if len(actions) > 1 else ""
    lines = [_action(action) for action in actions]
    lines.append(f"Answer{each} with {_either(allowed)}; or with JSON: " + '{"decisions": [{"type": …}, …]}.')
    return "\n".join(lines)


def _action(action: Mapping[str, Any]) -> str:
    call = f"{action.get('name', 'tool')}({_json(action.get('args', {}))})"
    description = action.get("description")
    return f"{description}\n{call}" if isinstance(description, str) and call not in description else call


def _decisions(schema: Any) -> list[str]:
    """The kinds of decision that a JSON schema names, wherever in it."""
    return list(dict.fromkeys(_constants(schema)))


def _constants(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        kind = (schema.get("properties") or {}).get("type")
        if isinstance(kind, Mapping) and isinstance(kind.get("const"), str):
            yield kind["const"]
        for inner in schema.values():
            yield from _constants(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _constants(inner)


def _either(choices: Sequence[str]) -> str:
    return " or ".join(choices or ("approve", "reject"))


def _offered(value: Mapping[str, Any]) -> Iterator[str]:
    for name in _CHOICES:
        choices = value.get(name)
        if isinstance(choices, list | tuple) and choices:
            yield f"Choices: {', '.join(one if isinstance(one, str) else _json(one) for one in choices)}"


def _decoded(answer: str) -> Any:
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
