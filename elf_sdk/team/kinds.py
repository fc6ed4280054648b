"""The kinds of text and number that both files hold.

Each kind says in one sentence what to write, which is what a person reads when something else stands there. Patterns
are written in the part of the syntax that Python and ECMA-262 share, so an editor refuses what `elf` refuses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from elf_sdk.team.base import shown

__all__ = [
    "Amount",
    "Bool",
    "Cidr",
    "Currency",
    "Duration",
    "EnvName",
    "EnvValue",
    "HostName",
    "Identifier",
    "ImageName",
    "KubernetesObject",
    "Label",
    "LabelKey",
    "Labels",
    "Line",
    "Name",
    "Number",
    "Placement",
    "Port",
    "PushTarget",
    "Quantity",
    "RelativePath",
    "ResourceName",
    "SecretKey",
    "TeamName",
    "Text",
    "Url",
    "Version",
    "Whole",
    "duration_seconds",
    "quantity_number",
]

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MULTIPLES: Final = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_LABEL: Final = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_NUMBER: Final = r"(0|[1-9][0-9]*)"
_PRE: Final = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_DNS: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-").lstrip("0123456789-")[:45].rstrip("-")


@dataclass(frozen=True, slots=True)
class _Written:
    """A kind of text: its pattern, its greatest length, and what to write, as the end of `… is wrong; write …`."""

    kind: str
    pattern: str
    longest: int
    remedy: str
    suggest: Callable[[str], str] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "title": self.kind, "pattern": self.pattern, "maxLength": self.longest}

    def check(self, text: str) -> str:
        """`text` itself, if it is of this kind; otherwise ValueError says what to write."""
        if len(text) > self.longest:
            raise ValueError(f"it has {len(text)} characters; write at most {self.longest}")
        if re.fullmatch(self.pattern, text):
            return text
        better = self.suggest(text) if self.suggest else ""
        hint = f", such as {better!r}" if better else ""
        raise ValueError(f"{shown(text)} is no {self.kind}; write {self.remedy}{hint}")


_ONE_LINE: Final = "one line of text without control characters"

TeamName = Annotated[
    str,
    _Written(
        "team name",
        f"^{_LABEL}$",
        45,
        "lower-case letters, digits and dashes, starting with a letter, at most 45 characters",
        _slug,
    ),
]
"""DNS-1035 label of at most 45 characters: Helm's 53 and suffixes need the rest."""

Label = Annotated[
    str, _Written("label", f"^{_LABEL}$", 63, "lower-case letters, digits and dashes, starting with a letter", _slug)
]
"""DNS-1035 label (RFC 1035): an environment, a namespace."""

Identifier = Annotated[
    str,
    _Written(
        "identifier",
        r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        63,
        "letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
    ),
]
ResourceName = Annotated[
    str,
    _Written("name of a Kubernetes object", f"^{_DNS}$", 253, "lower-case letters, digits, dashes and dots", _slug),
]
"""DNS-1123 subdomain, as Kubernetes names most objects."""

SecretKey = Annotated[
    str,
    _Written("key of a Secret", r"^[-._A-Za-z0-9]+$", 253, "letters, digits, dashes, dots and underscores"),
]
Text = Annotated[
    str,
    _Written(
        "plain text",
        r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]*$",
        4000,
        "text without tabs and control characters; line breaks are fine",
    ),
]
"""Text of any number of lines."""

Line = Annotated[str, _Written("line of text", f"^[^{_CONTROLS}]*$", 200, _ONE_LINE)]
"""One line, or nothing."""

Name = Annotated[
    str,
    _Written("name", rf"^[^\s{_CONTROLS}][^{_CONTROLS}]*$", 200, f"{_ONE_LINE} that starts with no space"),
]
"""One line that says something."""

Duration = Annotated[
    str,
    _Written(
        "duration",
        r"^[1-9][0-9]{0,5}(ms|s|m|h|d)$",
        8,
        "a whole number and a unit (ms, s, m, h or d), such as 30s, 5m or 2h",
    ),
]
Version = Annotated[
    str,
    _Written(
        "semantic version",
        rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?$",
        64,
        "three numbers such as 1.4.0, or 1.4.0-rc.1",
    ),
]
"""Semantic version (semver.org 2.0) without build metadata, which an image tag cannot carry."""

Url = Annotated[
    str,
    _Written(
        "address",
        rf"^https?://[^\s/?#@{_CONTROLS}]+([/?#][^\s{_CONTROLS}]*)?$",
        2000,
        "an address that starts with http:// or https:// and holds no user name or password",
    ),
]
HostName = Annotated[
    str,
    _Written("host name", rf"^((\*\.)?{_DNS})?$", 253, "a name such as chat.example.com, without scheme and port"),
]
PushTarget = Annotated[
    str,
    _Written(
        "target of push notifications",
        r"^(http://)?[\[\]A-Za-z0-9.:-]+(/[0-9]{1,3})?$",
        253,
        "a host, an address or a network such as 10.1.0.0/16, with http:// before it where it has no HTTPS",
    ),
]
ImageName = Annotated[
    str,
    _Written(
        "image reference", r"^([A-Za-z0-9][A-Za-z0-9._:/@-]*)?$", 255, "a reference such as registry.example.com/a/b"
    ),
]
RelativePath = Annotated[
    str,
    _Written(
        "relative path",
        rf"^(?!/)(?!(.*/)?\.\.(/|$))[^\\{_CONTROLS}]+$",
        200,
        "one that stays inside its directory, without .., such as evals/",
    ),
]
Placement = Annotated[
    str,
    _Written(
        "placement",
        rf"^{_LABEL}(\.{_LABEL})*$",
        200,
        "lower-case names joined by dots, such as marketing.brand, or executive, or standalone",
        lambda text: ".".join(filter(None, map(_slug, re.split(r"[./]", text)))),
    ),
]
EnvName = Annotated[
    str,
    _Written(
        "name of a variable", r"^[A-Za-z_][A-Za-z0-9_]*$", 253, "letters, digits and underscores, not a digit first"
    ),
]
Currency = Annotated[str, _Written("currency", "^[A-Z]{3}$", 3, "three capital letters", lambda text: text.upper()[:3])]
"""ISO 4217 code."""

EnvValue = Annotated[
    str,
    _Written(
        "value of a variable",
        r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$",
        32_768,
        "text without control characters; line breaks and tabs are fine",
    ),
]
LabelKey = Annotated[
    str,
    _Written(
        "label key",
        r"^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        317,
        "a key such as app or example.com/app",
    ),
]
"""The key of a label or of an annotation."""

Labels = dict[
    LabelKey,
    Annotated[
        str,
        _Written(
            "label value",
            r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
            63,
            "letters, digits, dashes, dots and underscores",
        ),
    ],
]
"""Kubernetes labels."""

Bool = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
"""A whole number, never a text that looks like one."""

Number = Annotated[float, Strict()]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_number_as_text),
    _Written(
        "quantity",
        r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
        32,
        "a number with an optional unit, such as 500m, 2, 512Mi or 1Gi",
    ),
    Field(json_schema_extra={"type": ["string", "number"]}),
]
"""Kubernetes quantity; a number without a unit may stand without quotes."""


def _amount(value: object) -> float | str:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15} tokens", value):
        return value
    raise ValueError(
        f"{shown(value)} is no amount; write a number from 0 in the organisation's currency, such as 2.5, "
        "or tokens, such as '200000 tokens'"
    )


Amount = Annotated[
    float | str,
    PlainValidator(_amount),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"title": "tokens", "type": "string", "pattern": "^[0-9]{1,15} tokens$"},
            ]
        }
    ),
]
"""Money in the organisation's currency, or `"200000 tokens"`."""


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is no network; write an address and a length, such as 10.0.0.0/8") from None
    if "/" not in text or str(network) != text.lower():
        raise ValueError(f"{shown(text)} is no network as Kubernetes writes it; write {network}")
    return text


Cidr = Annotated[
    str,
    AfterValidator(_network),
    Field(json_schema_extra={"title": "network", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$", "maxLength": 43}),
]
"""An IP network (RFC 4632)."""


def _kubernetes(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} has no fields; write them as Kubernetes does, such as `name: cache`")
    for path, inner in _leaves(value, ""):
        if inner is None or not isinstance(inner, str | int):
            raise ValueError(f"{path} is {shown(inner)}; write text, a whole number, true or false there")
    return value


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            # No object of Kubernetes has a list in a list.
            yield from ((f"{path}[{index}]", inner),) if isinstance(inner, list) else _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


KubernetesObject = Annotated[
    dict[str, Any],
    PlainValidator(_kubernetes),
    WithJsonSchema(
        {
            "type": "object",
            "title": "object of Kubernetes",
            "description": "As Kubernetes writes it.",
            "additionalProperties": True,
        }
    ),
]
"""Part of an object of Kubernetes, in its own names; what it says is checked where it is rendered."""


def duration_seconds(text: str) -> float:
    """`"30m"` as 1800.0; the units are ms, s, m, h and d.

    Raises:
        ValueError: `text` is no duration.
    """
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"{shown(text)} is no duration; write a whole number and a unit, such as 30s, 5m or 2h")
    return int(match[1]) * _UNITS[match[2]]


def quantity_number(text: str) -> float:
    """`"512Mi"` as 536870912.0: a quantity in its own unit, cores or bytes.

    Raises:
        ValueError: `text` is no quantity.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", text)
    if match is None:
        raise ValueError(f"{shown(text)} is no quantity; write a number with an optional unit, such as 500m or 512Mi")
    return float(match[1]) * _MULTIPLES[match[2] or ""]
