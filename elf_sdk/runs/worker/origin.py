"""How a clean interpreter finds the adapter that a process of its own is to run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import Adapter

__all__ = ["Origin", "attribute", "walk"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Names what gives the adapter, so that nothing but text has to travel.

    Attributes:
        loader: a function as `package.module:function`, importable in a clean interpreter.
        arguments: text by name, with which it is called.

    Example:
        Origin.at("support.team", "SupportTeam.adapter")
    """

    loader: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, module: str, qualname: str) -> Origin:
        """What stands at this place of an importable module."""
        return cls(f"{__name__}:attribute", {"module": module, "qualname": qualname})

    def load(self) -> Adapter:
        """The adapter.

        Raises:
            BadInput: nothing stands there, or it is no adapter.
            Exception: whatever the team's code raises while it is imported.
        """
        module, _, name = self.loader.partition(":")
        found = getattr(importlib.import_module(module), name)(**self.arguments)
        if not callable(getattr(found, "run", None)):
            raise BadInput(f"{self.loader} gave a {type(found).__name__} for {dict(self.arguments)}, and no adapter")
        return cast("Adapter", found)


def attribute(module: str, qualname: str) -> object:
    """What stands at `qualname` in a module.

    Raises:
        BadInput: there is nothing.
    """
    return walk(importlib.import_module(module), qualname)


def walk(holder: object, qualname: str) -> object:
    """What stands at a dotted name below `holder`.

    Raises:
        BadInput: there is nothing.
    """
    found = holder
    for name in qualname.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = getattr(holder, "__file__", None) or getattr(holder, "__name__", holder)
            raise BadInput(f"{where}: there is no {qualname} once it is imported anew; define it at the top") from None
    return found
