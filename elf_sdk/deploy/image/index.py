"""Where this user's pip takes packages from, so that a build takes them from there too.

What pip is told may hold a password. It reaches the build as a secret, a file that is mounted while pip runs, and
stands neither in a layer nor in a label nor in an argument.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from elf_sdk.deploy.image.program import asked
from elf_sdk.deploy.reference import is_loopback

__all__ = ["PackageIndex", "read_index", "wheels_of"]

_PLAIN: Final = ("index-url", "proxy", "timeout", "default-timeout", "retries", "no-index", "trusted-host")
_LISTS: Final = ("extra-index-url", "find-links")
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """What pip is told here.

    Attributes:
        configuration: the content of a pip.conf for the build.
        certificates: file of the certificates that pip trusts, or None for its own.
        directories: of this machine, in which pip looks for wheels.
        local: whether an index or a proxy is on this machine's loopback, which only a build in this machine's network
            reaches.
    """

    configuration: str = ""
    certificates: Path | None = None
    directories: tuple[Path, ...] = ()
    local: bool = False


CERTIFICATES: Final = "/run/elf/ca.pem"


def read_index(proxies: Iterable[str] = ()) -> PackageIndex:
    """What `pip config list` says: configuration files and `PIP_…` variables, in pip's own order.

    Args:
        proxies: addresses of the proxies that this user's requests go through.
    """
    told = _told()
    lines = ["[global]"]
    directories: list[Path] = []
    addresses = [*proxies]
    for name, value in sorted(told.items()):
        if name in _PLAIN:
            lines.append(f"{name} = {' '.join(value.split())}")
            addresses.append(value)
        elif name in _LISTS:
            remote = []
            for each in value.split():
                path = Path(each.removeprefix("file://")).expanduser()
                if path.is_dir():
                    directories.append(path)
                else:
                    remote.append(each)
            addresses += remote
            if remote:
                lines.append("\n    ".join([f"{name} =", *remote]))
    certificates = Path(told["cert"]).expanduser() if told.get("cert") else None
    if certificates is not None and certificates.is_file():
        lines.append(f"cert = {CERTIFICATES}")
    else:
        certificates = None
    local = any(is_loopback(_host(address)) for address in addresses)
    return PackageIndex("\n".join(lines) + "\n", certificates, tuple(directories), local)


def _told() -> dict[str, str]:
    for program in ([sys.executable, "-m", "pip"], ["pip"], ["python3", "-m", "pip"]):
        if (listing := asked([*program, "config", "list"])) is not None:
            return _parsed(listing)
    return {}


def _parsed(listing: str) -> dict[str, str]:
    """Options by name. A command's own go before those for all, and variables before both."""
    by_section: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in by_section:
            by_section[section][name] = str(ast.literal_eval(value))
    return {**by_section["global"], **by_section["install"], **by_section[":env:"]}


def _host(address: str) -> str:
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def wheels_of(directories: Iterable[Path], requirements: str) -> dict[str, Path]:
    """The wheels in `directories` that `requirements` want by their hash, by name."""
    wanted = set(_HASH.findall(requirements))
    found: dict[str, Path] = {}
    for directory in directories:
        for path in sorted(directory.glob("*.whl")):
            if hashlib.sha256(path.read_bytes()).hexdigest() in wanted:
                found.setdefault(path.name, path)
    return found
