r"""Which packages a team's image holds, each by version and hash.

`requirements/image.txt` locks what ELF and all of its extras for a running team need, for every Python and every
platform. It travels inside the wheel. Below each package stands which extras want it:

    grpcio==1.76.0 \
        --hash=sha256:… \
        --hash=sha256:…
        # crewai grpc

`core` is what every team needs. What one team needs is therefore a part of one file, and two teams of one framework
need the same bytes, which become the same layer of their images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from elf_sdk.errors import BadInput, Missing
from elf_sdk.team.spec import TeamSpec

__all__ = ["LOCK", "OWN_LOCK", "OWN_REQUIREMENTS", "extras_of", "locked", "own_requirements", "read_lock"]

LOCK: Final = "image.txt"
OWN_REQUIREMENTS: Final = "requirements.txt"
OWN_LOCK: Final = "requirements.lock"

CORE: Final = "core"
_FRAMEWORKS: Final = frozenset({"crewai", "langgraph"})

_PACKAGE: Final = re.compile(r"^\S+==.*(?:\n[ \t]+.*)*\n?", re.MULTILINE)
_FOR: Final = re.compile(r"^ +# ([a-z -]+)$", re.MULTILINE)
_HASHED: Final = re.compile(r"--hash[= ]sha(256|384|512):[0-9a-f]{64,128}")
_PINNED: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])? *==[^=]")


def read_lock() -> str:
    """What `requirements/image.txt` says: inside the installed package, or beside it in a checkout.

    Raises:
        Missing: it is in neither place.
    """
    package = Path(__file__).resolve().parents[2]
    for place in (package / "requirements", package.parent / "requirements"):
        if (place / LOCK).is_file():
            return (place / LOCK).read_text(encoding="utf-8")
    raise Missing(f"the locked packages of images are not in {package}; install elf-sdk again")


def extras_of(spec: TeamSpec) -> tuple[str, ...]:
    """The extras of elf-sdk that a team's process needs, sorted.

    PostgreSQL is always among them, because an environment may want it although the team does not say so.
    """
    everywhere = [spec, *map(spec.for_environment, spec.environments)]
    wanted = {"postgres"}
    if spec.framework in _FRAMEWORKS:
        wanted.add(spec.framework)
    if any(here.mcp for here in everywhere):
        wanted.add("mcp")
    if any(here.serving.grpc_port for here in everywhere):
        wanted.add("grpc")
    return tuple(sorted(wanted))


def locked(lock: str, extras: Iterable[str]) -> str:
    """The part of `lock` that `core` and `extras` need, with hashes, as pip's `--require-hashes` takes it."""
    wanted = {CORE, *extras}
    return "".join(package for package in _PACKAGE.findall(lock) if wanted & set(_wanted_by(package)))


def _wanted_by(package: str) -> list[str]:
    found = _FOR.search(package)
    return found[1].split() if found else []


def own_requirements(directory: Path, label: str, *, allow_unlocked: bool = False) -> tuple[str, bool]:
    """What a team wants beside ELF, from `requirements.lock`, or from a `requirements.txt` that has hashes itself.

    Args:
        directory: of the team.
        label: the directory as the user would type it.
        allow_unlocked: take a `requirements.txt` without hashes.

    Returns:
        The requirements, empty where there are none, and whether all of them are locked.

    Raises:
        BadInput: it is not locked, or it cannot be read.
    """
    for name in (OWN_LOCK, OWN_REQUIREMENTS):
        path = directory / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{label}/{name} cannot be read: {error}; save it as UTF-8") from None
        problem = _unlocked(text)
        if problem is None:
            return text, True
        line, what = problem
        if allow_unlocked and name == OWN_REQUIREMENTS:
            return text, False
        raise BadInput(
            f"{label}/{name}:{line}: {what!r} has no version and hash, so an image built tomorrow may hold something "
            f"else; lock it (uv pip compile --universal --generate-hashes {OWN_REQUIREMENTS} -o {OWN_LOCK}), or build "
            "with --allow-unlocked"
        )
    return "", True


def _unlocked(text: str) -> tuple[int, str] | None:
    """Line and content of the first requirement that is not pinned with a hash."""
    number = 1
    for logical in re.split(r"(?<!\\)\n", text):
        lines = logical.split("\n")
        said = " ".join(re.sub(r"(^|\s)#.*", "", line).rstrip("\\ ") for line in lines).strip()
        skipped = not said or said.startswith("--hash")
        if not skipped and not (_PINNED.match(said) and _HASHED.search(said)):
            return number, said
        number += len(lines)
    return None
