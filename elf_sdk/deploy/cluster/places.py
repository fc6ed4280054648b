"""Environments and the API servers behind them: one connection for each context, and what cannot be asked said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from elf_sdk.deploy.cluster.api import KubeApi
from elf_sdk.deploy.cluster.contexts import cluster_of, context_of
from elf_sdk.deploy.cluster.kubeconfig import Context, Kubeconfig
from elf_sdk.errors import ElfError
from elf_sdk.team.organisation import Cluster, Environment, Organisation
from elf_sdk.team.project import LoadedTeam

__all__ = ["Clusters", "Place", "places"]

_Answer = TypeVar("_Answer")
_WORKERS: Final = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Teams of an environment that run in one cluster: mostly all of them.

    Attributes:
        environment: of the organisation.
        cluster: where it is.
        teams: in the order of the project.
    """

    environment: Environment
    cluster: Cluster
    teams: tuple[LoadedTeam, ...]

    def namespaces(self) -> Mapping[str, tuple[LoadedTeam, ...]]:
        """The teams by their namespace."""
        found: dict[str, tuple[LoadedTeam, ...]] = {}
        for team in self.teams:
            namespace = team.spec.namespace_in(self.environment)
            found[namespace] = (*found.get(namespace, ()), team)
        return found


def places(
    teams: Iterable[LoadedTeam], environments: Iterable[Environment], organisation: Organisation
) -> tuple[Place, ...]:
    """Where `teams` run, environment by environment in their order."""
    found: dict[tuple[str, str], tuple[Environment, Cluster, list[LoadedTeam]]] = {}
    chosen = tuple(teams)
    for environment in environments:
        for team in chosen:
            cluster = cluster_of(team.spec, environment, organisation)
            key = (environment.name, cluster.name)
            found.setdefault(key, (environment, cluster, []))[2].append(team)
    return tuple(Place(environment, cluster, tuple(members)) for environment, cluster, members in found.values())


class Clusters:
    """The clusters of an organisation, each asked through its context. Safe to use from several threads.

    Args:
        organisation: whose clusters they are.
        kubeconfig: how they are reached.
        context: the name of a context to use for all of them; empty to find each its own.
    """

    def __init__(self, organisation: Organisation, kubeconfig: Kubeconfig, context: str = "") -> None:
        self._organisation = organisation
        self._kubeconfig = kubeconfig
        self._context = context
        self._open: dict[str, KubeApi] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def context(self, cluster: Cluster) -> Context:
        """The context that leads to `cluster`.

        Raises:
            BadInput: none does, or several do.
        """
        if self._context:
            return self._kubeconfig.context(self._context)
        return context_of(cluster, self._organisation, self._kubeconfig)

    def api(self, cluster: Cluster) -> KubeApi:
        """Its API server. Opened by one thread, before others ask.

        Raises:
            ElfError: it cannot be used; nothing was asked of it.
        """
        context = self.context(cluster)
        if context.name not in self._open:
            self._open[context.name] = self._stack.enter_context(KubeApi(context))
        return self._open[context.name]

    def ask(
        self, wanted: Iterable[Place], question: Callable[[Place, KubeApi], _Answer]
    ) -> list[tuple[Place, _Answer | ElfError]]:
        """What `question` says of each place, asked at once; an error of one place is its answer."""
        opened: list[tuple[Place, KubeApi | ElfError]] = []
        for place in wanted:
            try:
                opened.append((place, self.api(place.cluster)))
            except ElfError as error:
                opened.append((place, error))

        def answer(entry: tuple[Place, KubeApi | ElfError]) -> tuple[Place, _Answer | ElfError]:
            place, api = entry
            if isinstance(api, ElfError):
                return place, api
            try:
                return place, question(place, api)
            except ElfError as error:
                return place, error

        with ThreadPoolExecutor(_WORKERS) as pool:
            return list(pool.map(answer, opened))
