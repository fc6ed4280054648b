"""The Kubernetes API of one cluster, with objects as they are on the wire: dictionaries.

    with KubeApi(context) as api:
        for pod in api.list(PODS, "elf-teams", labels={"app": "brand-team"}):
            …

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from elf_sdk.deploy.cluster.access import Credentials, tls_context
from elf_sdk.deploy.cluster.kubeconfig import Context
from elf_sdk.errors import BadInput, Conflict, Failure, Forbidden, NotFound, Retryable, Unauthenticated

__all__ = [
    "APPLICATIONS",
    "DEPLOYMENTS",
    "EVENTS",
    "NAMESPACES",
    "PODS",
    "REPLICA_SETS",
    "SECRETS",
    "Kind",
    "KubeApi",
    "Object",
]

Object = dict[str, Any]
"""A Kubernetes object."""

FIELD_MANAGER: Final = "elf"
"""Who owns what is applied: https://kubernetes.io/docs/reference/using-api/server-side-apply/."""

_CONNECT_SECONDS: Final = 5.0
_SECONDS: Final = 20.0
_PAGE: Final = 500
_LINE: Final = 1024 * 1024
"""Bytes of a line that never ends, after which it is taken for several."""
_TRIES: Final = 4
_WAIT_SECONDS: Final = 5
"""At most, before the same is asked again."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, and where the API has it.

    Attributes:
        api_version: such as `v1` or `apps/v1`.
        plural: its name in addresses, such as `pods`.
    """

    api_version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of the objects, or of one of them; `namespace` is empty for what has none."""
        parts = ["apis" if "/" in self.api_version else "api", self.api_version]
        parts += ["namespaces", quote(namespace, safe="")] if namespace else []
        parts += [self.plural, *(quote(part, safe=":") for part in (name, subresource) if part)]
        return "/" + "/".join(parts)


APPLICATIONS: Final = Kind("argoproj.io/v1alpha1", "applications")
DEPLOYMENTS: Final = Kind("apps/v1", "deployments")
EVENTS: Final = Kind("v1", "events")
NAMESPACES: Final = Kind("v1", "namespaces")
PODS: Final = Kind("v1", "pods")
REPLICA_SETS: Final = Kind("apps/v1", "replicasets")
SECRETS: Final = Kind("v1", "secrets")


class KubeApi:
    """One API server, asked as the context's user. Safe to use from several threads.

    Args:
        context: from a kubeconfig.

    Raises:
        BadInput, Failure, Missing: the context cannot be used. Nothing is asked of the server yet.
    """

    def __init__(self, context: Context) -> None:
        if not context.server:
            raise BadInput(f"the context {context.name!r} names no cluster with an address; write it anew")
        self.context = context
        credentials = Credentials(context)
        name = context.cluster.text("tls-server-name")
        self._extensions: dict[str, Any] = {"sni_hostname": name} if name else {}
        self._client = httpx.Client(
            base_url=context.server,
            auth=credentials,
            verify=tls_context(context, credentials),
            proxy=context.cluster.text("proxy-url") or None,
            timeout=httpx.Timeout(_SECONDS, connect=_CONNECT_SECONDS),
            headers={"Accept": "application/json", "User-Agent": "elf"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    @property
    def name(self) -> str:
        """The cluster as a person knows it: context and address."""
        return f"{self.context.name} ({self.context.server})"

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """One object.

        Raises:
            NotFound: there is none of this name, or no such kind.
            ElfError: as for every method here: `Retryable` where the server is not reached or is busy,
                `Unauthenticated`, `Forbidden`, and `Failure` for the rest.
        """
        return self._object(self._ask("GET", kind.path(namespace, name)))

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Like `get`, but None where there is none."""
        try:
            return self.get(kind, namespace, name)
        except NotFound:
            return None

    def list(self, kind: Kind, namespace: str = "", *, labels: Mapping[str, str] | None = None) -> list[Object]:
        """Every object of a kind, in a namespace or in all.

        Args:
            kind: of the objects.
            namespace: empty for all of them.
            labels: only objects that have these.

        Raises:
            NotFound: the cluster has no such kind.
        """
        query = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        found: list[Object] = []
        while True:
            try:
                page = self._object(self._ask("GET", kind.path(namespace), query))
            except _Expired:
                # The rest of the pages is of a state that the server has forgotten; all at once then.
                found.clear()
                query.pop("continue")
                query.pop("limit")
                continue
            found += page.get("items") or ()
            if not (more := page.get("metadata", {}).get("continue")):
                return found
            query["continue"] = more

    def serves(self, kind: Kind) -> bool:
        """Whether the cluster knows a kind's group and version, which every user may ask."""
        try:
            self._ask("GET", f"/{'apis' if '/' in kind.api_version else 'api'}/{kind.api_version}")
        except NotFound:
            return False
        return True

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """Make an object.

        Raises:
            Conflict: there is one of this name already.
        """
        return self._object(
            self._ask("POST", kind.path(namespace), {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}, body)
        )

    @contextmanager
    def lines(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        subresource: str,
        query: Mapping[str, str],
        *,
        silence: float | None,
    ) -> Iterator[Lines]:
        """The lines of an answer that comes bit by bit, such as a log.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            subresource: of the object, such as `log`.
            query: parameters of the request.
            silence: seconds without a byte after which it is over; None waits for ever.

        Raises:
            Retryable: the connection broke, at the start or later.
        """
        timeout = httpx.Timeout(_SECONDS, connect=_CONNECT_SECONDS, read=silence)
        request = self._client.build_request(
            "GET",
            kind.path(namespace, name, subresource),
            params=dict(query),
            timeout=timeout,
            headers={"Accept": "*/*"},
            extensions=self._extensions,
        )
        try:
            answer = self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        try:
            if answer.is_error:
                answer.read()
                raise self._refused(answer)
            yield Lines(answer, self._unreachable)
        finally:
            answer.close()

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = self._client.request(method, path, params=query, json=body, extensions=self._extensions)
            except httpx.HTTPError as error:
                # A connection that was kept open may have been closed meanwhile; to read twice does no harm.
                if method == "GET" and tries_left and isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
                    continue
                raise self._unreachable(error) from None
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or not tries_left:
                break
            # API priority and fairness says when to come again.
            wait = answer.headers.get("Retry-After", "1")
            time.sleep(min(int(wait) if wait.isdecimal() else 1, _WAIT_SECONDS))
        if answer.is_error:
            raise self._refused(answer)
        return answer

    def _object(self, answer: httpx.Response) -> Object:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Failure(f"{self.name} is no Kubernetes API: it answers {answer.text[:60]!r}; look at the address")
        return found

    def _unreachable(self, error: httpx.HTTPError) -> Retryable:
        if isinstance(error, httpx.TimeoutException):
            why = "it does not answer"
        else:
            why = " ".join(str(error).split()) or type(error).__name__
        return Retryable(
            f"the cluster {self.name} cannot be reached: {why}; is it there, and is this the right context?"
        )

    def _refused(self, answer: httpx.Response) -> Exception:
        try:
            status = answer.json()
            message = " ".join(str(status.get("message") or "").split())
        except (ValueError, AttributeError):
            message = " ".join(answer.text[:200].split())
        code = answer.status_code
        about = f"the cluster {self.name} says: {message or answer.reason_phrase}"
        match code:
            case 401:
                return Unauthenticated(f"the cluster {self.name} does not know who asks; sign in to it anew")
            case 403:
                return Forbidden(f"{about}; ask its administrator for that right")
            case 404:
                return NotFound(about)
            case 409:
                return Conflict(about)
            case 410:
                return _Expired(about)
            case 429 | 502 | 503 | 504:
                return Retryable(f"{about}; try again later")
            case _:
                return Failure(about)


class Lines:
    """Lines as they come, without their ends.

    Iterating raises `Retryable` when the connection breaks. `interrupt` may be called from another thread.
    """

    def __init__(self, answer: httpx.Response, unreachable: Callable[[httpx.HTTPError], Retryable]) -> None:
        self._answer = answer
        self._unreachable = unreachable

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        try:
            for piece in self._answer.iter_bytes():
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
                if len(rest) > _LINE:
                    yield rest
                    rest = b""
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if rest:
            yield rest

    def interrupt(self) -> None:
        """End the iteration, also where it waits.

        To close the connection would not do: whoever waits for it would go on with whatever is opened under the same
        number next. So it is only ended, and closed by the thread that reads.
        """
        stream = self._answer.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Expired(Failure):
    """Pages of a list whose state is gone (HTTP 410)."""
