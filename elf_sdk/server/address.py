"""What a request says of addresses: where the team is for its caller, and whether the caller is on this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

from elf_sdk.settings import Network

__all__ = ["Address", "address_beside", "is_local"]

_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){0,10}")
_PAIR: Final = re.compile(r'[ \t]*([A-Za-z]{1,20})=(?:"([^"\\]*)"|([^\s",;]+))[ \t]*([;,]|$)')
"""One parameter of a Forwarded header, and what ends it; escapes in quotes have no use in an address."""

_FROM_ELSEWHERE: Final = frozenset({"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip", "origin"})
_LOCAL_HOST: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a team is, as far as it is known before anybody asks. URLs have no slash at the end.

    Attributes:
        public: for everybody; empty: as the request says.
        inside: for those who ask by its host, such as other teams in the cluster; counts beside `public` only.
        proxies: whose forwarding headers are believed.
    """

    public: str = ""
    inside: str = ""
    proxies: Sequence[Network] = ()

    def of(self, request: Request) -> str:
        """The team's own address as the caller sees it, without a slash at the end.

        Without a public address it is that of the request; through a trusted proxy that which the proxy was asked for,
        by `Forwarded` (RFC 7239), else by `X-Forwarded-Proto` and `-Host`, and with `X-Forwarded-Prefix` in either
        case. What is no host name, or comes from elsewhere, counts for nothing.
        """
        host = request.headers.get("host", "")
        if self.public:
            return self.inside if self.inside and host == urlsplit(self.inside).netloc else self.public
        if not _HOST.fullmatch(host):
            name, port = request.scope.get("server") or ("localhost", None)
            host = f"{name}:{port}" if port else str(name)
        scheme, prefix = request.url.scheme, ""
        if self.proxies and request.client is not None and self._trusts(request.client.host):
            asked = self._forwarded(request.headers.get("forwarded", "")) or _x_forwarded(request.headers)
            if asked.get("proto") in ("http", "https"):
                scheme = asked["proto"]
            if _HOST.fullmatch(asked.get("host", "")):
                host = asked["host"]
            given = _last(request.headers.get("x-forwarded-prefix", "")).rstrip("/")
            prefix = given if _PREFIX.fullmatch(given) else ""
        return f"{scheme}://{host}{prefix}{request.scope.get('root_path', '').rstrip('/')}"

    def others(self, url: str) -> tuple[str, ...]:
        """The team's known addresses beside `url`."""
        known = (self.public, self.inside) if self.public else ()
        return tuple(other for other in known if other and other != url)

    def _trusts(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.proxies)

    def _forwarded(self, header: str) -> dict[str, str]:
        """The element of a Forwarded header that the outermost trusted proxy wrote; empty where there is none."""
        elements: list[dict[str, str]] = [{}]
        place = 0
        while place < len(header):
            pair = _PAIR.match(header, place)
            if pair is None:
                return {}
            elements[-1][pair[1].lower()] = pair[2] if pair[3] is None else pair[3]
            if pair[4] == ",":
                elements.append({})
            place = pair.end()
        # Each proxy adds its element at the end, and says by `for` who asked it.
        while len(elements) > 1 and self._trusts(_host_of(elements[-1].get("for", ""))):
            elements.pop()
        return elements[-1]


def _x_forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: _last(headers.get(f"x-forwarded-{name}", "")) for name in ("proto", "host")}


def _last(values: str) -> str:
    """The last of a list: what comes before it may have been sent by anybody."""
    return values.rpartition(",")[2].strip()


def _host_of(node: str) -> str:
    """The address in a node of a Forwarded header, which may have brackets and a port (RFC 7239, section 6)."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def address_beside(url: str, port: int) -> str:
    """`host:port` of another port of the machine that `url` names."""
    host = urlsplit(url).hostname or "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(connection: HTTPConnection) -> bool:
    """Whether somebody on this machine asks: not through a proxy, and no page of another site in a browser."""
    headers = connection.headers
    # A proxy that says nothing of itself still speaks HTTP/1.0 to the server behind it, as nginx does by default.
    if connection.client is None or connection.scope.get("http_version") == "1.0":
        return False
    if any(name in _FROM_ELSEWHERE or name.startswith("x-forwarded-") for name in headers):
        return False
    # The header itself: a URL falls back to the server's own address where the header is no host name.
    name = _LOCAL_HOST.fullmatch(headers.get("host", ""))
    try:
        return name is not None and ipaddress.ip_address(connection.client.host).is_loopback
    except ValueError:
        return False
