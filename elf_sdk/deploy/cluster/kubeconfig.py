"""What kubeconfig files say: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/.

Several files are one: what a file says first stays, the current context too, and a path is relative to its own file.
In a pod without such a file the service account is the only context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from elf_sdk.errors import BadInput
from elf_sdk.settings import kubeconfig_files, service_account_server

__all__ = ["IN_CLUSTER", "Context", "Entry", "Kubeconfig", "read_kubeconfig"]

IN_CLUSTER: Final = "in-cluster"
"""The context of a pod, which has no kubeconfig."""

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Entry:
    """A cluster or a user as a file has it.

    Attributes:
        fields: what stands below its name.
        directory: of the file; paths in it are relative to this.
    """

    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    directory: Path = Path()

    def text(self, name: str) -> str:
        """A field that holds text; empty where it is absent.

        Raises:
            BadInput: it holds something else.
        """
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadInput(f"{name} in a kubeconfig of {self.directory} is no text; write it in quotes")
        return value

    def path(self, name: str) -> Path | None:
        """A field that holds a path, absolute; None where it is absent."""
        value = self.text(name)
        return self.directory / value if value else None


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster, and as whom to ask it.

    Attributes:
        name: of the context.
        cluster: where the API server is, and by what it is known.
        user: who asks.
        in_pod: whether it is a pod's service account, which no kubeconfig knows.
    """

    name: str
    cluster: Entry
    user: Entry
    in_pod: bool = False

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self.cluster.text("server").rstrip("/")


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """All contexts that there are.

    Attributes:
        files: those that were read.
        contexts: by name.
        current: the name of the current context; empty for none.
    """

    files: tuple[Path, ...]
    contexts: Mapping[str, Context]
    current: str

    def context(self, name: str = "") -> Context:
        """The context called `name`, by default the current one.

        Raises:
            BadInput: there is none; the message lists those that there are.
        """
        if not self.contexts:
            where = f"{', '.join(map(str, self.files))} holds none" if self.files else "there is no kubeconfig"
            raise BadInput(f"no cluster is known here: {where}; set KUBECONFIG to the file of your cluster")
        there = ", ".join(sorted(self.contexts))
        if not name and not self.current:
            raise BadInput(f"no context is the current one; choose: kubectl config use-context NAME, of: {there}")
        found = self.contexts.get(name or self.current)
        if found is None:
            raise BadInput(f"no kubeconfig has a context {name or self.current!r}; there are: {there}")
        return found


def read_kubeconfig(files: Sequence[Path] | None = None) -> Kubeconfig:
    """What the kubeconfig files say.

    Args:
        files: by default those of `KUBECONFIG`, else `~/.kube/config`; those that do not exist are passed over.

    Raises:
        BadInput: a file cannot be read, or is no kubeconfig.
    """
    read = [(file, _read(file)) for file in (kubeconfig_files() if files is None else files) if file.exists()]
    if not read and files is None and (server := service_account_server()) and _SERVICE_ACCOUNT.is_dir():
        return _in_pod(server)
    clusters: dict[str, Entry] = {}
    users: dict[str, Entry] = {}
    named: dict[str, tuple[Mapping[str, Any], Path]] = {}
    current = ""
    for file, content in read:
        directory = file.absolute().parent
        for name, fields in _named(content, "clusters", "cluster", file):
            clusters.setdefault(name, Entry(fields, directory))
        for name, fields in _named(content, "users", "user", file):
            users.setdefault(name, Entry(fields, directory))
        for name, fields in _named(content, "contexts", "context", file):
            named.setdefault(name, (fields, file))
        current = current or str(content.get("current-context") or "")
    contexts = {name: _context(name, fields, file, clusters, users) for name, (fields, file) in named.items()}
    return Kubeconfig(tuple(file for file, _ in read), contexts, current)


def _context(
    name: str, fields: Mapping[str, Any], file: Path, clusters: Mapping[str, Entry], users: Mapping[str, Entry]
) -> Context:
    cluster = clusters.get(str(fields.get("cluster", "")), Entry(directory=file.absolute().parent))
    return Context(name, cluster, users.get(str(fields.get("user", "")), Entry()))


def _in_pod(server: str) -> Kubeconfig:
    cluster = {"server": server, "certificate-authority": str(_SERVICE_ACCOUNT / "ca.crt")}
    user = {"tokenFile": str(_SERVICE_ACCOUNT / "token")}
    context = Context(IN_CLUSTER, Entry(cluster, _SERVICE_ACCOUNT), Entry(user, _SERVICE_ACCOUNT), True)
    return Kubeconfig((), {IN_CLUSTER: context}, IN_CLUSTER)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        # What the parser says may quote a token.
        raise BadInput(f"{file} is no YAML, so it is no kubeconfig; write it anew, or set KUBECONFIG") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadInput(f"{file} is no kubeconfig; set KUBECONFIG to one")
    return content


def _named(
    content: Mapping[str, Any], plural: str, singular: str, file: Path
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries of a list such as `clusters: [{name: …, cluster: {…}}]`."""
    entries = content.get(plural) or []
    if not isinstance(entries, list):
        raise BadInput(f"{file} is no kubeconfig: {plural} is no list")
    for entry in entries:
        fields = entry.get(singular) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not isinstance(fields or {}, dict):
            raise BadInput(f"{file} is no kubeconfig: an entry of {plural} has no name, or no {singular}")
        yield entry["name"], fields or {}
