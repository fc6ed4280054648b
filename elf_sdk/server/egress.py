"""Requests to addresses that somebody else gave: push notifications, and cards of servers that are not ours.

Such an address may point inside (server-side request forgery): at this machine, at its neighbours, at the cloud's
metadata. So a host is resolved here, all its addresses are checked, and the connection goes to one that was
checked (`server/transport.py`). Nothing can change between the look and the use.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from elf_sdk.errors import BadInput

__all__ = ["Address", "Egress", "Resolve", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str], Awaitable[Sequence[Address]]]
"""All addresses of a host name; none where it has none."""

_LONGEST: Final = 2048
"""Characters of a URL."""
_RESOLVE_TIMEOUT: Final = 5.0
_RESOLVERS: Final = 16
"""Threads that wait for name servers: own ones, because a slow name server must stop nothing else."""
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a host a number for some resolvers (WHATWG URL, section 3.5): 2130706433, 0x7f.1, 0177.1."""
_PATH: Final = re.compile(r"[/?#]")
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")

_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's metadata, in what looks public
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments, and a cloud's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",
        "3fff::/20",
    )
)
"""IANA's special-purpose registries (RFC 6890), and metadata addresses; of IPv6 only what lies in `_GLOBAL`."""
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's. An IPv6 address that holds an IPv4 one is as public as that."""
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address to which packets for this IPv6 address end up going."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class Egress:
    """Where this process may send requests whose address somebody else gave.

    Args:
        allowed: what may be reached although it is not public: host names, addresses and networks (CIDR), each
            with `http://` before it where that need not be HTTPS.
        plain: whether HTTP without TLS will do everywhere.
        resolve: finds a host's addresses; by default the system does.

    Raises:
        BadInput: an entry of `allowed` is none of these.
    """

    def __init__(self, allowed: Iterable[str] = (), *, plain: bool = False, resolve: Resolve | None = None) -> None:
        self._plain = plain
        self._resolve = resolve or self._ask_system
        self._threads: ThreadPoolExecutor | None = None
        self._hosts: dict[str, bool] = {}
        self._networks: list[tuple[Network, bool]] = []
        for entry in allowed:
            self._allow(entry)

    def _allow(self, entry: str) -> None:
        bare = entry.strip().lower().removeprefix("http://")
        without_tls = bare != entry.strip().lower()
        try:
            self._networks.append((ipaddress.ip_network(bare.strip("[]"), strict=False), without_tls))
        except ValueError:
            host = bare.removesuffix(".")
            if not _is_name(host):
                raise BadInput(
                    f"ELF_PUSH_ALLOW holds {entry!r}, which cannot be let through; name a host, an address or a "
                    "network such as 10.1.0.0/16, with http:// before it where it has no HTTPS"
                ) from None
            self._hosts[host] = without_tls

    def close(self) -> None:
        """Wait for no name server any more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def check(self, url: str) -> None:
        """See that requests may go there now; the connection itself is checked again when it is made.

        Raises:
            BadInput: they may not; the message says why, and nothing of what is inside.
        """
        # In a thread, because the first one loads the HTTP client.
        scheme, host = await asyncio.to_thread(self.target, url)
        if not self._is_named(scheme, host):
            await self.addresses(scheme, host)

    def target(self, url: str) -> tuple[str, str]:
        """Scheme and host of a URL that is well-formed, and unambiguous for whoever reads it.

        Raises:
            BadInput: it is not.
        """
        if len(url) > _LONGEST:
            raise BadInput(f"the URL has {len(url)} characters; use at most {_LONGEST}")
        # A tenth of a second, which most servers never need.
        import httpx

        try:
            # The parser of those who make the request.
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise BadInput("the URL cannot be read; write one such as https://host.example/path") from None
        if _UNSAFE.search(url) or parsed.scheme not in ("https", "http"):
            raise BadInput("the URL must be an https one, without spaces and backslashes")
        if "@" in _PATH.split(url.partition("//")[2], maxsplit=1)[0]:
            raise BadInput("the URL holds a user or a password; give credentials where they belong")
        if parsed.port is not None and not 0 < parsed.port < 65536:
            raise BadInput(f"the URL's port is {parsed.port}; use one from 1 to 65535")
        host = parsed.raw_host.decode("ascii").lower().removesuffix(".")
        if _literal(host) is None and not _is_name(host):
            raise BadInput("the URL's host is neither a name nor an address in its usual form")
        if parsed.scheme == "http" and not self._may_be_plain(host):
            raise BadInput("the URL must begin with https://")
        return parsed.scheme, host

    async def addresses(self, scheme: str, host: str) -> Sequence[Address]:
        """The addresses of `host`, as `target` gave it, to which requests may go.

        Raises:
            BadInput: one of them is not to be reached, or there is none. It is the same sentence, because which
                names there are inside is nobody's business.
        """
        literal = _literal(host)
        found = await self._resolve(host) if literal is None else [literal]
        if self._is_named(scheme, host):
            return found
        if not found or not all(self._may(address, scheme) for address in found):
            raise BadInput(f"the host {host!r} has no public address; use one that has, or add it to ELF_PUSH_ALLOW")
        return found

    def _is_named(self, scheme: str, host: str) -> bool:
        """Whether the host is let through wherever it is."""
        without_tls = self._hosts.get(host)
        return without_tls is not None and (without_tls or self._plain or scheme == "https")

    def _may(self, address: Address, scheme: str) -> bool:
        protected = self._plain or scheme == "https"
        if protected and is_public(address):
            return True
        same = _embedded(address) or address
        return any(same in network and (protected or plain) for network, plain in self._networks)

    def _may_be_plain(self, host: str) -> bool:
        # Whether the addresses lie in a network that may be is seen once they are known.
        return self._plain or self._hosts.get(host, False) or any(plain for _, plain in self._networks)

    async def _ask_system(self, host: str) -> Sequence[Address]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT):
                return await loop.run_in_executor(self._threads, _lookup, host)
        except TimeoutError:
            return []


def _is_name(host: str) -> bool:
    return len(host) <= 253 and _NAME.fullmatch(host) is not None and not _NUMBER.fullmatch(host.rpartition(".")[2])


def _literal(host: str) -> Address | None:
    """The address that a host is; None where it is a name, and for an address with a zone, which means this machine."""
    if "%" in host:
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _lookup(host: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(ipaddress.ip_address(address[0]) for *_, address in found))
