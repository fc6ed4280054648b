"""The Secrets that the charts of an environment name: which, with which keys, and whether the cluster has them.

No value is ever shown, written or kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from elf_sdk.deploy.cluster.api import SECRETS, KubeApi
from elf_sdk.deploy.encode import to_yaml
from elf_sdk.deploy.team_chart import TeamCharts
from elf_sdk.errors import NotFound
from elf_sdk.team.organisation import Environment
from elf_sdk.team.project import LoadedTeam

__all__ = ["Finding", "NeededKey", "NeededSecret", "check_secrets", "needed_secrets", "secret_skeletons"]

PULL_SECRET: Final = ".dockerconfigjson"  # noqa: S105 - the key that Kubernetes gives to it
_SUPABASE_KEYS: Final = ("anon-key", "anon_key", "service-role-key", "service_role_key", "key")
"""What people put beside the URLs of Supabase out of habit; the charts read none of it."""


SecretKind = Literal["opaque", "pull", "tls"]


@dataclass(frozen=True, slots=True)
class NeededKey:
    """One key of a Secret.

    Attributes:
        key: in the Secret; empty for whatever it holds.
        teams: that read it, sorted.
        optional: whether their pods start without it.
    """

    key: str
    teams: tuple[str, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class NeededSecret:
    """One Secret.

    Attributes:
        environment: the environment.
        namespace: where it is looked for.
        name: of the Secret.
        keys: sorted.
        kind: `opaque`; `pull` for one that opens a registry; `tls` for a certificate and its key.
        filled: whether the chart itself has it filled from a store of External Secrets.
    """

    environment: str
    namespace: str
    name: str
    keys: tuple[NeededKey, ...]
    kind: SecretKind = "opaque"
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What the cluster has of one key.

    Attributes:
        secret: the Secret.
        key: the key; empty where the Secret as a whole is meant.
        state: `present`; `missing`, or `empty`, which is as bad; `optional` where it is absent and may be; `unneeded`
            for what is there and nothing reads.
        teams: that read it.
    """

    secret: NeededSecret
    key: str
    state: Literal["present", "missing", "empty", "optional", "unneeded"]
    teams: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether a pod does not start, or not work, because of it."""
        return self.state in ("missing", "empty")

    def __str__(self) -> str:
        where = f"Secret {self.secret.name} in {self.secret.namespace}"
        readers = f" ({', '.join(self.teams)})" if self.teams else ""
        match self.state:
            case "missing":
                return f"{where} has no key {self.key}{readers}" if self.key else f"{where} is not there{readers}"
            case "empty":
                return f"{where}: the key {self.key} is empty{readers}"
            case "optional":
                return f"{where}: the key {self.key} is absent, and may be{readers}"
            case "unneeded":
                return f"{where}: the key {self.key} is not needed; nothing reads it"
            case _:
                return f"{where}: the key {self.key} is there{readers}"


def needed_secrets(
    charts: TeamCharts, teams: Sequence[LoadedTeam], environment: Environment
) -> tuple[NeededSecret, ...]:
    """Every Secret that the charts of `teams` name in `environment`, by namespace and name.

    Raises:
        BadInput: what a team says cannot be a chart.
    """
    found: dict[tuple[str, str, SecretKind], dict[str, list[tuple[str, bool]]]] = {}
    filled: set[tuple[str, str]] = set()
    for team in teams:
        values = charts.chart(team).values[environment.name]
        namespace = values["namespace"]
        filled |= {(namespace, secret["name"]) for secret in values["externalSecrets"]["secrets"]}
        for reference in _references(values):
            readers = found.setdefault((namespace, reference.name, reference.kind), {}).setdefault(reference.key, [])
            readers.append((team.spec.name, reference.optional))
    return tuple(
        NeededSecret(
            environment.name,
            namespace,
            name,
            tuple(_needed(key, readers) for key, readers in sorted(keys.items())),
            kind,
            (namespace, name) in filled,
        )
        for (namespace, name, kind), keys in sorted(found.items())
    )


def _needed(key: str, readers: Iterable[tuple[str, bool]]) -> NeededKey:
    # A team that reads it twice needs it if it does so once.
    required = {team for team, optional in readers if not optional}
    return NeededKey(key, tuple(sorted({team for team, _ in readers})), not required)


@dataclass(frozen=True, slots=True)
class _Reference:
    name: str
    key: str
    optional: bool = False
    kind: SecretKind = "opaque"


def _references(values: Mapping[str, Any]) -> Iterator[_Reference]:
    for entry in values["secrets"]:
        yield _Reference(entry["secret"], entry["key"], entry["optional"])
    if values["migration"]["enabled"]:
        yield _Reference(values["migration"]["secret"], values["migration"]["key"])
    for name in values["image"]["pullSecrets"]:
        yield _Reference(name, PULL_SECRET, kind="pull")
    if values["ingress"]["enabled"] and (certificate := values["ingress"]["tlsSecret"]):
        # A controller has a certificate of its own for as long as this one is not there.
        for key in ("tls.crt", "tls.key"):
            yield _Reference(certificate, key, optional=True, kind="tls")
    yield from _written(values["extra"])


def _written(node: object) -> Iterator[_Reference]:
    """What people write of Secrets in Kubernetes' own words, below `extra`."""
    if isinstance(node, Mapping):
        for field in ("secretKeyRef", "secretRef", "secret"):
            held = node.get(field)
            if not isinstance(held, Mapping):
                continue
            name, optional = held.get("name") or held.get("secretName"), bool(held.get("optional"))
            items = [held] if "key" in held else held.get("items") or [{}]
            yield from (_Reference(str(name), str(item.get("key", "")), optional) for item in items)
        for value in node.values():
            yield from _written(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _written(item)


def check_secrets(needed: Iterable[NeededSecret], api: KubeApi) -> Iterator[Finding]:
    """What the cluster has of `needed`, key by key.

    Raises:
        ElfError: the cluster cannot be asked, or does not let this user read Secrets.
    """
    for secret in needed:
        try:
            held = api.get(SECRETS, secret.namespace, secret.name).get("data") or {}
        except NotFound:
            required = {team for key in secret.keys if not key.optional for team in key.teams}
            if required:
                yield Finding(secret, "", "missing", tuple(sorted(required)))
            for key in secret.keys:
                if key.optional and key.key:
                    yield Finding(secret, key.key, "optional", key.teams)
            continue
        # From here on only names: values do not leave this function.
        filled = {name for name, value in held.items() if value}
        for key in secret.keys:
            if not key.key:
                continue
            yield Finding(secret, key.key, _state(key, filled, set(held)), key.teams)
        known = {key.key for key in secret.keys}
        for name in sorted(set(held) - known):
            if name in _SUPABASE_KEYS and "supabase" in secret.name:
                yield Finding(secret, name, "unneeded")


def _state(key: NeededKey, filled: set[str], there: set[str]) -> Literal["present", "missing", "empty", "optional"]:
    if key.key in filled:
        return "present"
    if key.key in there:
        return "empty"
    return "optional" if key.optional else "missing"


_HEADER: Final = (
    "# Written by elf secrets template. It holds no value; a file with values does not belong into a repository.\n"
)


def secret_skeletons(needed: Iterable[NeededSecret], *, store: str = "", store_kind: str = "ClusterSecretStore") -> str:
    """A stream of YAML documents without a value in it: a Secret, or an ExternalSecret, for each of `needed`.

    Left out are certificates, which have their own makers, and what a chart has filled from a store.

    Args:
        needed: from `needed_secrets`.
        store: the SecretStore of External Secrets (https://external-secrets.io); empty for plain Secrets.
        store_kind: `SecretStore` or `ClusterSecretStore`.
    """
    documents = [
        _comment(secret) + to_yaml(_external(secret, store, store_kind) if store else _plain(secret))
        for secret in needed
        if secret.kind != "tls" and not secret.filled
    ]
    return _HEADER + "---\n".join(documents)


def _comment(secret: NeededSecret) -> str:
    lines = [f"# {secret.environment}, {secret.name}:\n"]
    for key in secret.keys:
        optional = "may be absent; " if key.optional else ""
        lines.append(f"#   {key.key or 'whatever it holds'}: {optional}read by {', '.join(key.teams)}\n")
    if "supabase" in secret.name:
        lines.append("#   A key of Supabase (anon, service role) is not needed.\n")
    return "".join(lines)


def _plain(secret: NeededSecret) -> dict[str, object]:
    if secret.kind == "pull":
        # The one form that an API server takes for this type, with no registry in it.
        data, type_ = {PULL_SECRET: '{"auths": {}}'}, "kubernetes.io/dockerconfigjson"
    else:
        data, type_ = {key.key: "" for key in secret.keys if key.key}, "Opaque"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret.name, "namespace": secret.namespace},
        "type": type_,
        "stringData": data,
    }


def _external(secret: NeededSecret, store: str, store_kind: str) -> dict[str, object]:
    target: dict[str, object] = {"name": secret.name, "creationPolicy": "Owner"}
    if secret.kind == "pull":
        target["template"] = {"type": "kubernetes.io/dockerconfigjson"}
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": secret.name, "namespace": secret.namespace},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"name": store, "kind": store_kind},
            "target": target,
            "data": [
                {"secretKey": key.key, "remoteRef": {"key": f"{secret.namespace}/{secret.name}", "property": key.key}}
                for key in secret.keys
                if key.key
            ],
        },
    }
