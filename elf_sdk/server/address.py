"""What a request says of addresses: where the team is for its caller, and whether the caller is on this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from starlette.requests import HTTPConnection, Request

__all__ = ["base_url", "is_local"]

_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


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


def is_local(connection: HTTPConnection) -> bool:
    """Whether somebody on this machine asks, and not through a proxy."""
    headers = connection.headers
    if connection.client is None or "forwarded" in headers or "x-forwarded-for" in headers:
        return False
    name = connection.url.hostname or ""
    try:
        local_name = name == "localhost" or ipaddress.ip_address(name).is_loopback
        return local_name and ipaddress.ip_address(connection.client.host).is_loopback
    except ValueError:
        return False
