"""Where things are in a GitOps repository, below the directory that ELF writes.

    bootstrap/root.yaml             the one file that a person applies; it brings all the rest
    bootstrap/namespaces.yaml       namespaces of the cluster that Argo CD runs in
    clusters/<cluster>/…            namespaces of another cluster
    projects/<team>-<env>.yaml      AppProject
    applicationsets/<env>.yaml      ApplicationSet
    environments/<env>/<team>/      app.yaml and the team's chart

and of plain manifests, for `--format manifests`:

    applications/teams-app.yaml     the file that a person applies, where there is Argo CD
    manifests/environments/<env>/   kustomization.yaml with all teams of the environment, and namespaces.yaml
    manifests/teams/<team>/<env>/   kustomization.yaml, one file an object, and app.yaml

What changes as one is a place: the directory of a team in an environment, or any other file by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "APPLICATION_SETS",
    "APP_FILE",
    "BOOTSTRAP",
    "CLUSTERS",
    "ENVIRONMENTS",
    "GENERATED",
    "KUSTOMIZATION",
    "MANIFESTS",
    "PROJECTS",
    "TEAMS_APP",
    "Tree",
    "application_name",
    "application_set_place",
    "environment_of",
    "environment_place",
    "manifests_place",
    "place_of",
    "project_place",
    "team_place",
]

Tree = Mapping[str, bytes]
"""The files of a place by their paths in it; a place that is a file has one, called by the empty text."""

APP_FILE: Final = "app.yaml"
KUSTOMIZATION: Final = "kustomization.yaml"
BOOTSTRAP: Final = "bootstrap"
CLUSTERS: Final = "clusters"
PROJECTS: Final = "projects"
APPLICATION_SETS: Final = "applicationsets"
ENVIRONMENTS: Final = "environments"
MANIFESTS: Final = "manifests"
TEAMS_APP: Final = "applications/teams-app.yaml"

GENERATED: Final = "# Written by elf gitops; changes belong in team.yaml or elf.yaml.\n"


def application_name(team: str, environment: str) -> str:
    """The Application of a team, and its AppProject."""
    return f"{team}-{environment}"


def team_place(environment: str, team: str) -> str:
    """The directory of a team in an environment."""
    return f"{ENVIRONMENTS}/{environment}/{team}"


def project_place(environment: str, team: str) -> str:
    """The file of the AppProject of a team in an environment."""
    return f"{PROJECTS}/{application_name(team, environment)}.yaml"


def application_set_place(environment: str) -> str:
    """The file of an environment's ApplicationSet."""
    return f"{APPLICATION_SETS}/{environment}.yaml"


def manifests_place(environment: str, team: str) -> str:
    """The directory of a team in an environment, as plain manifests."""
    return f"{MANIFESTS}/teams/{team}/{environment}"


def environment_place(environment: str, file: str) -> str:
    """A file of an environment of plain manifests."""
    return f"{MANIFESTS}/environments/{environment}/{file}"


def place_of(path: str) -> str:
    """The place that a file belongs to."""
    parts = path.split("/")
    depth = 3 if parts[0] == ENVIRONMENTS else 4 if parts[:2] == [MANIFESTS, "teams"] else len(parts)
    return "/".join(parts[:depth]) if len(parts) > depth else path


def environment_of(place: str) -> tuple[str, str] | None:
    """Environment and team of a team's directory; None for any other place."""
    parts = place.split("/")
    if parts[0] == ENVIRONMENTS and len(parts) == 3:
        return parts[1], parts[2]
    if parts[:2] == [MANIFESTS, "teams"] and len(parts) == 4:
        return parts[3], parts[2]
    return None
