"""The only reader of the environment: variables become one frozen object, once, at start.

Every field says its unit and default. A value that is a secret can also be given as a file: `NAME_FILE` holds the
path, and goes before `NAME`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from elf_sdk.errors import BadInput

__all__ = ["Network", "Settings", "key_variable", "load_settings"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_SWITCH: Final[Mapping[str, bool | None]] = {"": None, "on": True, "off": False}
_IDEMPOTENCY: Final = ("always", "extension")
_PROVIDERS: Final = ("openai", "anthropic", "openrouter", "ollama", "compatible")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process was told by its environment.

    Attributes:
        environment: `ELF_ENVIRONMENT`, which environment this is; default `dev`.
        organisation: `ELF_ORGANISATION`, the organisation's name in tokens; default `elf`.
        store: `ELF_STORE`, a SQLite file, or `:memory:` for the volatile log; default `.elf/elf.db`.
        database_url: `ELF_DATABASE_URL`, else `SUPABASE_DB_URL`: a PostgreSQL that goes before `store`; default none.
        jwt_secret: `JWT_SECRET_KEY`, shared secret of at least 32 bytes for HS256; empty means none.
        team_url: `ELF_TEAM_URL`, how teams reach each other, with `{team}` in it.
        public_url: `ELF_PUBLIC_URL`, the address of this team as others see it; default: from the request.
        trusted_proxies: `ELF_TRUSTED_PROXIES`, addresses or networks with commas between, whose forwarding headers are
            believed; default none.
        a2a_compat: `ELF_A2A_COMPAT`, `on` or `off`, whether clients of A2A 0.3 are answered; default `on`.
        a2a_idempotency: `ELF_A2A_IDEMPOTENCY`, for whom a message that is sent again is the same one: `always`, or for
            callers that ask for the `extension`; default `always`.
        query_token: `ELF_QUERY_TOKEN`, `on` or `off`, whether the chat takes a token in its address; default: in dev
            only.
        host: `ELF_HOST`, the address to listen on; default 127.0.0.1.
        port: `ELF_PORT`, default 8000.
        grpc_port: `ELF_GRPC_PORT`, the port for A2A over gRPC; default none, and then there is no gRPC.
        grpc_address: `ELF_GRPC_ADDRESS`, `host:port` of the team's gRPC as others see it; default: the host of the
            request or of `public_url`, and `grpc_port`.
        model_keys: `<PROVIDER>_API_KEY` by provider.
        offline_url: `ELF_OFFLINE_URL`, a running offline model; default: the server starts its own.
        log_level: `ELF_LOG_LEVEL`, one of debug, info, warning and error; default `info`.
    """

    environment: str = "dev"
    organisation: str = "elf"
    store: str = ".elf/elf.db"
    database_url: str = field(default="", repr=False)
    jwt_secret: str = field(default="", repr=False)
    team_url: str = ""
    public_url: str = ""
    trusted_proxies: tuple[Network, ...] = ()
    a2a_compat: bool = True
    a2a_idempotency: str = "always"
    query_token: bool | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    grpc_address: str = ""
    model_keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    offline_url: str = ""
    log_level: str = "info"

    @property
    def takes_query_token(self) -> bool:
        """Whether the chat takes a token in its address, default applied. Addresses end up in logs of proxies."""
        return self.environment == "dev" if self.query_token is None else self.query_token


def key_variable(provider: str) -> str:
    """The variable that holds the key of a model's provider."""
    return f"{provider.upper()}_API_KEY"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environ`, by default the process's own.

    Raises:
        BadInput: a variable holds what it cannot; the message names it.
    """
    source = os.environ if environ is None else environ
    defaults = Settings()
    grpc_port = source.get("ELF_GRPC_PORT", "")
    log_level = source.get("ELF_LOG_LEVEL", defaults.log_level).lower()
    if log_level not in _LOG_LEVELS:
        raise BadInput(f"ELF_LOG_LEVEL is {log_level!r}; set it to {', '.join(_LOG_LEVELS)}")
    query_token = source.get("ELF_QUERY_TOKEN", "").lower()
    if query_token not in _SWITCH:
        raise BadInput(f"ELF_QUERY_TOKEN is {query_token!r}; set it to on or off")
    a2a_compat = source.get("ELF_A2A_COMPAT", "").lower()
    if a2a_compat not in _SWITCH:
        raise BadInput(f"ELF_A2A_COMPAT is {a2a_compat!r}; set it to on or off")
    a2a_idempotency = source.get("ELF_A2A_IDEMPOTENCY", defaults.a2a_idempotency).lower()
    if a2a_idempotency not in _IDEMPOTENCY:
        raise BadInput(f"ELF_A2A_IDEMPOTENCY is {a2a_idempotency!r}; set it to {' or '.join(_IDEMPOTENCY)}")
    secret = _secret(source, "JWT_SECRET_KEY")
    if secret and len(secret.encode()) < 32:
        raise BadInput(f"JWT_SECRET_KEY has {len(secret.encode())} bytes; HS256 needs at least 32")
    return Settings(
        environment=source.get("ELF_ENVIRONMENT", defaults.environment),
        organisation=source.get("ELF_ORGANISATION", defaults.organisation),
        store=source.get("ELF_STORE", defaults.store),
        database_url=_secret(source, "ELF_DATABASE_URL") or _secret(source, "SUPABASE_DB_URL"),
        jwt_secret=secret,
        team_url=source.get("ELF_TEAM_URL", ""),
        public_url=source.get("ELF_PUBLIC_URL", "").rstrip("/"),
        trusted_proxies=_networks(source.get("ELF_TRUSTED_PROXIES", "")),
        a2a_compat=_SWITCH[a2a_compat] is not False,
        a2a_idempotency=a2a_idempotency,
        query_token=_SWITCH[query_token],
        host=source.get("ELF_HOST", defaults.host),
        port=_port("ELF_PORT", source.get("ELF_PORT", str(defaults.port))),
        grpc_port=_port("ELF_GRPC_PORT", grpc_port) if grpc_port else None,
        grpc_address=source.get("ELF_GRPC_ADDRESS", ""),
        model_keys=MappingProxyType({name: key for name in _PROVIDERS if (key := _secret(source, key_variable(name)))}),
        offline_url=source.get("ELF_OFFLINE_URL", "").rstrip("/"),
        log_level=log_level,
    )


def _port(name: str, port: str) -> int:
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise BadInput(f"{name} is {port!r}; set it to a port number from 0 to 65535")
    return int(port)


def _networks(given: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network.strip()) for network in given.split(",") if network.strip())
    except ValueError as error:
        raise BadInput(
            f"ELF_TRUSTED_PROXIES is {given!r}, where {error}; write addresses or networks such as 10.0.0.0/8"
        ) from None


def _secret(source: Mapping[str, str], name: str) -> str:
    path = source.get(f"{name}_FILE", "")
    if not path:
        return source.get(name, "").strip()
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadInput(f"{name}_FILE names {path!r}, which cannot be read: {error.strerror}") from None
