"""What every model has in common: its strictness, how a field is named, and how a value is shown."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

__all__ = ["FIELDS_ONLY", "FORMAT", "FORMAT_TYPE", "FileModel", "Frozen", "Location", "field_path", "shown"]

FORMAT: Final = "elf/v1"
FORMAT_TYPE = Literal["elf/v1"]

FIELDS_ONLY: Final = {"consistency": False}
"""Validation context of who places each problem in its file, and so asks for `FileModel.problems` alone."""


class Frozen(BaseModel):
    """A value: never changed after it was made, and without fields that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
    )


Location = tuple[str | int, ...]
"""The path of a field, such as `("members", 0, "role")`."""


def field_path(location: Location) -> str:
    """`("members", 0, "role")` as `members[0].role`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class FileModel(Frozen):
    """What a whole file says. What has to fit between its fields is checked at the end, all of it at once."""

    def problems(self) -> list[tuple[Location, str]]:
        """What is wrong between fields that are each right: the field's path, and what to write instead."""
        return []

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        if info.context != FIELDS_ONLY and (found := self.problems()):
            raise ValueError("; ".join(f"{field_path(where)}: {message}" for where, message in found))
        return self


_QUOTES: Final = "'\""


def shown(value: object) -> str:
    """`value` as it appears in a message: quoted, and cut when it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[0] if text[0] in _QUOTES else ''}"
