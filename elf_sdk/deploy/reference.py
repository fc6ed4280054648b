"""How images are called: `registry.example.com/agents/brand-team:1.2.0`. Pure.

One function names a team's image, for the builder as well as for the chart, so that both mean the same one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from elf_sdk.team.organisation import Organisation
from elf_sdk.team.spec import TeamSpec

__all__ = ["Reference", "image_of", "is_loopback", "qualified", "registry_of", "repository_of"]

DOCKER_HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry.

    Attributes:
        registry: host, with a port where there is one; empty for an image of this machine alone.
        path: of the repository in the registry.
        tag: a semantic version.
    """

    registry: str
    path: str
    tag: str

    @property
    def repository(self) -> str:
        """Without the tag."""
        return f"{self.registry}/{self.path}" if self.registry else self.path

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def repository_of(spec: TeamSpec, organisation: Organisation) -> str:
    """The repository of a team's image: `<registry>/<team>`, or `<team>` where there is no registry."""
    registry = spec.image.registry if spec.image.registry is not None else organisation.registry
    return f"{registry.rstrip('/')}/{spec.name}" if registry else spec.name


def image_of(spec: TeamSpec, organisation: Organisation) -> Reference:
    """The image of a team's version. The tag is the version, so it never is `latest`."""
    registry, path = _split(repository_of(spec, organisation))
    return Reference(registry, path, spec.version)


def qualified(image: str) -> str:
    """`image` with its registry written out: `python:3.11-slim` is `docker.io/library/python:3.11-slim`.

    Docker means that anyway; podman and buildah ask, or refuse, depending on how they are configured.
    """
    registry, path = _split(image)
    if registry:
        return image
    return f"{DOCKER_HUB}/{path}" if "/" in path else f"{DOCKER_HUB}/library/{path}"


def registry_of(image: str) -> str:
    """The registry that `image` names; empty where it names none."""
    return _split(image)[0]


def is_loopback(registry: str) -> bool:
    """Whether a registry is this machine, where it may go without TLS."""
    host = registry.rpartition(":")[0] if registry.rpartition(":")[2].isdecimal() else registry
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _split(image: str) -> tuple[str, str]:
    """Registry and the rest: the first part is a host if it looks like one (distribution/reference)."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "", image
