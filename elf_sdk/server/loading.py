"""A team's `team.py` as a TeamServer, several of them in one process.

Teams name their modules alike (`graph`, `crew`), so each is imported with its own directory first on the path, and
what it brought along is filed under the team's name afterwards. So a team imports its siblings at the top of a module,
not later inside a function; but in a worker process, which has one team alone, it may do that as well.

A directory `src` beside `team.py` is on the path too, as it is where a program of that layout is installed.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import pickle
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

from elf_sdk.errors import BadInput, ElfError, Missing
from elf_sdk.models.variables import NAME_IT, found_no_key
from elf_sdk.server.origin import TEAM_MODULE
from elf_sdk.server.team_server import TeamServer

__all__ = ["load_server", "named_adapter", "pickled_adapter"]

_EXTRAS: Final = {
    "crewai": "crewai",
    "langgraph": "langgraph",
    "langchain_core": "langgraph",
    "langchain_openai": "langgraph",
}

_OWN: Final = frozenset({"team", "tests", "conftest", "setup"})
"""Modules that stand beside many a team, and that no team imports."""


def load_server(directory: Path) -> TeamServer:
    """The server that `directory/team.py` defines: an instance, or else the one subclass of TeamServer.

    Raises:
        BadInput: there is no team.py, it fails, or it defines no team; the message names file and line.
        Missing: it needs a package that is not installed.
    """
    path = directory / "team.py"
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; a team needs a team.py with a subclass of TeamServer")
    module = _imported(path)
    found = [value for value in vars(module).values() if isinstance(value, TeamServer)]
    if found:
        return found[0]
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, TeamServer) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise BadInput(f"{path}: it defines {len(classes)} subclasses of TeamServer; define one, or an instance of it")
    with _telling(path, "making the team"):
        return classes[0]()


def named_adapter(qualname: str, module: str = "", path: str = "", main: str = "") -> object:
    """For a worker process: what `origin.origin_of` has found by its name.

    Args:
        qualname: in the module.
        module: its name, if it is not the program itself.
        path: of the team.py that brings the module along.
        main: the program itself: its file, or its name as a module.

    Raises:
        BadInput: it fails, or there is no such thing; the message names file and line.
        Missing: it needs a package that is not installed.
    """
    from elf_sdk.runs.worker.origin import walk  # only a worker process needs it

    return walk(_found_module(module, path, main), qualname)


def pickled_adapter(pickled: str, module: str = "", path: str = "", main: str = "") -> object:
    """For a worker process: what `origin.origin_of` has found by the names of its parts.

    Args:
        pickled: the adapter, in base64.
        module: brought along by `path`.
        path: as for `named_adapter`.
        main: as for `named_adapter`.

    Raises:
        BadInput: as for `named_adapter`.
    """
    if path or main:
        _found_module(module, path, main)
    return pickle.loads(base64.b64decode(pickled))  # noqa: S301 - from the server itself


def _found_module(module: str, path: str, main: str) -> ModuleType:
    if path:
        _imported(Path(path), alone=True)
        return sys.modules[module]
    if not main:
        return importlib.import_module(module)
    # By neither name runs what is guarded by "__main__". The one for a file is what multiprocessing gives it, too.
    found = _executed("__mp_main__", Path(main)) if Path(main).is_absolute() else importlib.import_module(main)
    sys.modules["__main__"] = found
    return found


def _executed(name: str, path: Path) -> ModuleType:
    loader = SourceFileLoader(name, str(path))
    spec = ModuleSpec(name, loader, origin=str(path))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _telling(path, "importing the team"):
        loader.exec_module(module)
    return module


def _imported(path: Path, *, alone: bool = False) -> ModuleType:
    directory = path.parent.resolve()
    name = f"{TEAM_MODULE}{directory.name.replace('-', '_')}"
    source = directory / "src"
    places = [directory, source] if source.is_dir() and not (source / "__init__.py").is_file() else [directory]
    for place in places:
        _refuse_hidden(place)
    present = frozenset(sys.modules)
    sys.path[:0] = map(str, places)
    try:
        module = _executed(name, path)
    finally:
        if not alone:
            for place in places:
                # The team's own code may have taken it away.
                with suppress(ValueError):
                    sys.path.remove(str(place))
        _file_away(directory, name, present, alone=alone)
    return module


@contextmanager
def _telling(path: Path, doing: str) -> Iterator[None]:
    """Tell what the team's code raises as one sentence. Only Ctrl-C goes on as it is."""
    try:
        yield
    except (ElfError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _EXTRAS:
            raise Missing(
                f"{path}: this team needs {package}, which is not installed; "
                f"run: pip install 'elf-sdk[{_EXTRAS[package]}]'"
            ) from error
        raise BadInput(
            f"{_place(error, path)}: there is no module {error.name!r}; install it, or correct the import"
        ) from error
    except SystemExit as error:
        raise BadInput(
            f"{_place(error, path)}: {doing} ended the process (exit {error.code}); "
            "a team.py defines a team, and what it does belongs below `if __name__ == '__main__':`"
        ) from error
    except BaseException as error:  # the command line knows no other kind of error
        if found_no_key(error):
            raise Missing(f"{_place(error, path)}: {NAME_IT}") from error
        raise BadInput(f"{_place(error, path)}: {doing} raised {type(error).__name__}: {error}") from error


def _refuse_hidden(directory: Path) -> None:
    """Refuse a module of the team's that an import would never find, or that Python would find in place of its own.

    Raises:
        BadInput: it has the name of a module of Python's own, or of a package that is loaded.
    """
    for entry in sorted(directory.iterdir()):
        plain = entry.stem if entry.suffix == ".py" else entry.name if (entry / "__init__.py").is_file() else ""
        if not plain or plain in _OWN:
            continue
        loaded = getattr(sys.modules.get(plain), "__file__", None)
        elsewhere = loaded is not None and not Path(loaded).resolve().is_relative_to(directory)
        if plain in sys.stdlib_module_names or elsewhere:
            whose = "Python's own" if plain in sys.stdlib_module_names else "a package that is installed"
            raise BadInput(f"{entry}: {whose} module has the name {plain!r} already; give this one another name")


def _file_away(directory: Path, name: str, present: frozenset[str], *, alone: bool) -> None:
    """Free the plain names of a team's own modules for the next team; those that were `present` before are not its.

    Args:
        directory: of the team.
        name: of its module.
        present: names that are somebody else's.
        alone: there is no other team, and the plain names go on to serve.
    """
    # First all of them: a package without an __init__.py finds its place through the one around it.
    places = {
        plain: _standing(module)
        for plain, module in list(sys.modules.items())
        if plain not in present and not plain.startswith(TEAM_MODULE)
    }
    for plain, place in places.items():
        if place and Path(place).resolve().is_relative_to(directory):
            filed = f"{name}.{plain}"
            sys.modules[filed] = module = sys.modules[plain]
            if not alone:
                del sys.modules[plain]
            # Whoever resolves the annotations of a class looks up its module by this name, and may do so much later.
            for value in list(vars(module).values()):
                if isinstance(value, type) and value.__module__ == plain:
                    with suppress(AttributeError, TypeError):
                        value.__module__ = filed


def _standing(module: ModuleType) -> str:
    """The file of a module, or the directory of a package that has none; empty for what stands nowhere."""
    file = getattr(module, "__file__", None)
    return str(file or next(iter(getattr(module, "__path__", ())), ""))


def _place(error: BaseException, path: Path) -> str:
    """File and line of the team's own code that raised, as well as it is known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    directory = path.parent.resolve()
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(directory)
    ]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)
