"""A change as Kubernetes sees it: what each team renders to now and what it would, object by object."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from elf_sdk.deploy.gitops.app import App
from elf_sdk.deploy.gitops.change import Change
from elf_sdk.deploy.gitops.layout import APP_FILE, KUSTOMIZATION, Tree, environment_of
from elf_sdk.deploy.gitops.proof import Chart, Progress, render
from elf_sdk.deploy.gitops.snapshot import Snapshot
from elf_sdk.deploy.helm import Choice, Helm
from elf_sdk.deploy.kubernetes import parse_manifests

__all__ = ["ObjectDiff", "diff"]


@dataclass(frozen=True, slots=True)
class ObjectDiff:
    """How one object differs.

    Attributes:
        environment: in which it is; empty for an object of Argo CD.
        team: whose it is; empty for an object that belongs to none.
        kind: such as Deployment.
        name: of the object.
        namespace: in which it is; empty for none.
        status: whether it comes, goes or changes.
        lines: a unified diff of it as YAML, without line ends; what a Secret holds is not shown.
    """

    environment: str
    team: str
    kind: str
    name: str
    namespace: str
    status: Literal["added", "changed", "removed"]
    lines: tuple[str, ...]


def diff(
    change: Change,
    base: Snapshot,
    helm: Choice | Callable[[], Helm] = "auto",
    progress: Progress = lambda done, total, about: None,
) -> tuple[ObjectDiff, ...]:
    """What `change` does to the objects of `base`, by environment, team, kind and name.

    Args:
        change: with nothing but what differs.
        base: the commit that it is compared with.
        helm: which Helm renders, or what gives it.
        progress: told about every chart.

    Raises:
        Failure: something does not render.
        Missing: Helm or the Kubernetes schemas have to be installed.
    """
    before = base.read_all(change.places)
    old = _rendered({place: before.get(place) for place in change.places}, helm, progress)
    new = _rendered(change.places, helm, progress)
    found = (_compared(where, old.get(where), new.get(where)) for where in sorted(old.keys() | new.keys()))
    return tuple(each for each in found if each is not None)


_Where = tuple[str, str, str, str, str, str]
"""Environment, team, kind, name, namespace, API group and version: what makes an object itself."""


def _rendered(
    places: Mapping[str, Tree | None], helm: Choice | Callable[[], Helm], progress: Progress
) -> dict[_Where, Mapping[str, Any]]:
    charts = list(_charts(places))
    objects: dict[_Where, Mapping[str, Any]] = {}
    _, rendered = render(charts, helm, manifests=True, progress=progress)
    for (environment, team), manifests in rendered.items():
        objects |= dict(_named(environment, team, parse_manifests(manifests)))
    for place, tree in places.items():
        if tree is not None and "" in tree and not place.endswith(KUSTOMIZATION):
            objects |= dict(_named("", "", parse_manifests(tree[""].decode())))
        elif tree is not None and KUSTOMIZATION in tree and (where := environment_of(place)):
            for name, content in tree.items():
                if name not in (APP_FILE, KUSTOMIZATION):
                    objects |= dict(_named(*where, parse_manifests(content.decode())))
    return objects


def _charts(places: Mapping[str, Tree | None]) -> Iterator[Chart]:
    for place, tree in places.items():
        if tree is not None and "Chart.yaml" in tree and (where := environment_of(place)):
            app = App.decode(tree[APP_FILE], f"{place}/{APP_FILE}")
            yield Chart(*where, app.namespace, tree)


def _named(environment: str, team: str, objects: Iterable[dict[str, Any]]) -> Iterator[tuple[_Where, dict[str, Any]]]:
    for each in objects:
        metadata = each["metadata"]
        names = (str(each.get("kind", "")), str(metadata.get("name", "")), str(metadata.get("namespace", "")))
        yield (environment, team, *names, str(each.get("apiVersion", ""))), each


def _compared(where: _Where, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> ObjectDiff | None:
    if old == new:
        return None
    environment, team, kind, name, namespace, _ = where
    status: Literal["added", "changed", "removed"] = "added" if old is None else "removed" if new is None else "changed"
    label = f"{kind}/{name}"
    shown = difflib.unified_diff(
        _lines(_shown(old, new, "before")),
        _lines(_shown(new, old, "after")),
        label if old is not None else "/dev/null",
        label if new is not None else "/dev/null",
        lineterm="",
    )
    return ObjectDiff(environment, team, kind, name, namespace, status, tuple(shown))


def _lines(shown: Mapping[str, Any] | None) -> list[str]:
    if shown is None:
        return []
    return yaml.safe_dump(shown, sort_keys=True, allow_unicode=True, width=10**6).splitlines()


def _shown(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None, when: str) -> Mapping[str, Any] | None:
    """An object as it may be shown: of a Secret whether a value stays, and never the value."""
    if one is None or one.get("kind") != "Secret":
        return one
    shown = dict(one)
    for field in ("data", "stringData"):
        values, others = one.get(field) or {}, (other or {}).get(field) or {}
        if values:
            shown[field] = {
                key: "(hidden)" if others.get(key) == value else f"(hidden, {when})" for key, value in values.items()
            }
    return shown
