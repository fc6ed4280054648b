"""Waiting until teams are ready in a cluster, or gone from it, and all that can be said of those that are late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from elf_sdk.deploy.cluster.api import DEPLOYMENTS, EVENTS, PODS, REPLICA_SETS, KubeApi, Object
from elf_sdk.deploy.cluster.places import Place
from elf_sdk.deploy.rollout import crashed, is_ready, obstacles
from elf_sdk.deploy.secrets import check_secrets, needed_secrets
from elf_sdk.deploy.team_chart import TeamCharts
from elf_sdk.errors import ElfError
from elf_sdk.team.project import LoadedTeam

__all__ = ["Deployed", "Say", "missing_secrets", "wait_gone", "wait_ready"]

Say = Callable[[str], None]
"""Told what happens, one sentence at a time."""

_PERIOD: Final = 2.0
"""Seconds between two looks."""
_LAST_LINES: Final = 8
"""Of a container that ended, to tell why."""
_LINE: Final = 300
"""Characters of each."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one team.

    Attributes:
        team: its name.
        namespace: where it is.
        ready: whether all of its replicas were ready in time; for a removal, whether it is gone.
        problems: what keeps it, one sentence each.
        log: the last lines of a container that ended.
    """

    team: str
    namespace: str
    ready: bool
    problems: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


def wait_ready(
    charts: TeamCharts, place: Place, teams: Sequence[LoadedTeam], api: KubeApi, until: float, say: Say
) -> dict[str, Deployed]:
    """Wait until teams of a place are ready, and tell what keeps them meanwhile.

    Args:
        charts: of the project.
        place: where they were installed.
        teams: which of its teams.
        api: of the place's cluster.
        until: by the monotonic clock, when to wait no longer.
        say: told what happens.

    Returns:
        What became of each, by name.

    Raises:
        ElfError: the cluster does not answer.
    """
    waiting = {team.spec.name: team.spec.namespace_in(place.environment) for team in teams}
    outcomes: dict[str, Deployed] = {}
    said: dict[str, tuple[str, ...]] = {}
    while waiting:
        for namespace in sorted(set(waiting.values())):
            deployments = {each["metadata"]["name"]: each for each in api.list(DEPLOYMENTS, namespace)}
            late: list[str] = []
            for name in [name for name, where in waiting.items() if where == namespace]:
                if is_ready(deployments.get(name)):
                    outcomes[name] = Deployed(name, namespace, True)
                    say(f"{name}: ready")
                    del waiting[name]
                else:
                    late.append(name)
            over = time.monotonic() >= until
            if late:
                seen = _Seen.of(api, namespace)
                for name in late:
                    problems = seen.obstacles(name, deployments.get(name))
                    if over:
                        outcomes[name] = _late(charts, place, name, namespace, problems, seen, api)
                        del waiting[name]
                    elif problems and said.get(name) != problems:
                        said[name] = problems
                        say(f"{name}: waits: {'; '.join(problems)}")
        if waiting:
            time.sleep(min(_PERIOD, max(0.0, until - time.monotonic())))
    return outcomes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is in a namespace beside the Deployments."""

    replica_sets: Sequence[Object]
    pods: Sequence[Object]
    events: Sequence[Object]

    @classmethod
    def of(cls, api: KubeApi, namespace: str) -> Self:
        return cls(api.list(REPLICA_SETS, namespace), api.list(PODS, namespace), api.list(EVENTS, namespace))

    def obstacles(self, team: str, deployment: Object | None) -> tuple[str, ...]:
        return obstacles(deployment, _own(self.replica_sets, team), _own(self.pods, team), self.events)

    def crashed(self, team: str) -> Iterator[tuple[str, str]]:
        return crashed(_own(self.pods, team), _own(self.replica_sets, team))


def _own(objects: Sequence[Object], team: str) -> list[Object]:
    return [each for each in objects if (each["metadata"].get("labels") or {}).get("app") == team]


def _late(
    charts: TeamCharts,
    place: Place,
    name: str,
    namespace: str,
    problems: tuple[str, ...],
    seen: _Seen,
    api: KubeApi,
) -> Deployed:
    """A team that is not ready in time, with all that can be said about it."""
    team = next(team for team in place.teams if team.spec.name == name)
    own = Place(place.environment, place.cluster, (team,))
    secrets = tuple(missing_secrets(charts, own, api))
    log: list[str] = []
    for pod, container in seen.crashed(name):
        log = _last_lines(api, namespace, pod, container)
        if log:
            break
    every = tuple(dict.fromkeys((*secrets, *problems))) or ("it is not ready, and its pods do not say why",)
    return Deployed(name, namespace, False, every, tuple(log))


def _last_lines(api: KubeApi, namespace: str, pod: str, container: str) -> list[str]:
    for previous in ("false", "true"):
        query = {"container": container, "tailLines": str(_LAST_LINES), "previous": previous}
        try:
            with api.lines(PODS, namespace, pod, "log", query, silence=10) as lines:
                found = [line.decode("utf-8", "replace")[:_LINE] for line in lines]
        except ElfError:
            # The log went with its container, or may not be read; the exit code is told all the same.
            continue
        if found:
            return found[-_LAST_LINES:]
    return []


def wait_gone(team: str, namespace: str, api: KubeApi, until: float) -> Deployed:
    """Wait until nothing of a team is left that runs; arguments and errors are those of `wait_ready`."""
    while True:
        left = api.list(PODS, namespace, labels={"app": team})
        if not left and api.find(DEPLOYMENTS, namespace, team) is None:
            return Deployed(team, namespace, True)
        if time.monotonic() >= until:
            pods = ", ".join(pod["metadata"]["name"] for pod in left) or "its Deployment"
            return Deployed(team, namespace, False, (f"{pods} is still there; it may have runs to finish",))
        time.sleep(min(_PERIOD, max(0.0, until - time.monotonic())))


def missing_secrets(charts: TeamCharts, place: Place, api: KubeApi) -> Iterator[str]:
    """What the charts of a place name of Secrets and the cluster does not have, one sentence each."""
    needed = needed_secrets(charts, place.teams, place.environment)
    try:
        for finding in check_secrets(needed, api):
            if finding.wrong:
                yield str(finding)
    except ElfError as error:
        yield f"whether the Secrets are there is not known: {error}"
