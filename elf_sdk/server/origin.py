"""How a worker process finds the adapter that a team's class names."""

from __future__ import annotations

import base64
import operator
import pickle
import pickletools
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from elf_sdk.errors import BadInput
from elf_sdk.runs.adapter import Adapter

if TYPE_CHECKING:
    from elf_sdk.runs.worker import Origin

__all__ = ["TEAM_MODULE", "origin_of"]

TEAM_MODULE = "elf_team_"
"""Begins the name of a module that was loaded from a team's directory, and of what it brought along."""
_LOADER = "elf_sdk.server.loading"


def origin_of(cls: type, adapter: Adapter) -> Origin:
    """How a clean interpreter finds `adapter`, which `cls` names.

    By the module and the name of the class; or, for a class that is made in a function, by the names of what the
    adapter is made of.

    Raises:
        BadInput: it does not.
    """
    # A team whose code does not block needs none of it.
    from elf_sdk.runs.worker import Origin

    module = sys.modules.get(cls.__module__)
    if module is not None and _stands(module, cls) and (way := _way(module)):
        return Origin(f"{_LOADER}:named_adapter", {**way, "qualname": f"{cls.__qualname__}.adapter"})
    try:
        pickled = pickle.dumps(adapter)
    except (pickle.PicklingError, AttributeError, TypeError):
        raise _lost(cls) from None
    way = {}
    if needed := {name for name in _modules(pickled) if name == "__main__" or name.startswith(TEAM_MODULE)}:
        way = _way(sys.modules[min(needed)])
        if not way:
            raise _lost(cls)
    return Origin(f"{_LOADER}:pickled_adapter", {**way, "pickled": base64.b64encode(pickled).decode()})


def _lost(cls: type) -> BadInput:
    return BadInput(
        f"{cls.__name__}: a process of its own cannot find its adapter, because {cls.__qualname__} is not at the top "
        "level of a module that can be imported; define it there, or set runs.isolation: thread in its team.yaml"
    )


def _stands(module: ModuleType, cls: type) -> bool:
    try:
        return operator.attrgetter(cls.__qualname__)(module) is cls
    except AttributeError:
        return False


def _way(module: ModuleType) -> dict[str, str]:
    """How to get at a module in another process, as `loading.found_module` takes it; empty where there is no way."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if name.startswith(TEAM_MODULE):
        top = sys.modules[name.partition(".")[0]].__file__
        return {"path": str(top), "module": name} if top else {}
    spec = getattr(module, "__spec__", None)
    if name == "__main__":
        if spec is not None and spec.name != "__main__":
            # `python -m package.module`: there it has its own name, under which it can be imported.
            return {"main": spec.name}
        return {"main": str(Path(file).resolve())} if file else {}
    return {"module": name} if spec is not None else {}


def _modules(pickled: bytes) -> set[str]:
    """The modules that a pickle names."""
    return {word for _, word, _ in pickletools.genops(pickled) if isinstance(word, str) and word in sys.modules}
