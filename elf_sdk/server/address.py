"""What a request says of addresses: where the team is for its caller, and whether the caller is on this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

__all__ = ["address_beside", "base_url", "is_local"]

_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")

_FROM_ELSEWHERE: Final = frozenset({"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip", "origin"})
_LOCAL_HOST: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def base_url(request: Request, public_url: str = "") -> str:
    """The team's own address as the caller sees it, without a slash at the end; `public_url` where that is set.

    Forwarding headers are not read here: a server behind a proxy sets `ELF_PUBLIC_URL`. A Host header that is no
    host name counts for nothing.
    """
    if public_url:
        return public_url.rstrip("/")
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else str(name)
    return f"{request.url.scheme}://{host}{request.scope.get('root_path', '').rstrip('/')}"


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
