"""The only reader of the environment: variables become one frozen object, once, at start.

Every field says its unit and default. A value that is a secret can also be given as a file: `NAME_FILE` holds the
path, and goes before `NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from elf_sdk.errors import BadInput

__all__ = ["Settings", "key_variable", "load_settings"]

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_LOG_FORMATS: Final = ("", "json", "text")
_SWITCH: Final[Mapping[str, bool | None]] = {"": None, "on": True, "off": False}
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
        query_token: `ELF_QUERY_TOKEN`, `on` or `off`, whether the chat takes a token in its address; default: in dev
            only.
        host: `ELF_HOST`, the address to listen on; default 127.0.0.1.
        port: `ELF_PORT`, default 8000.
        model_keys: `<PROVIDER>_API_KEY` by provider.
        offline_url: `ELF_OFFLINE_URL`, a running offline model; default: the server starts its own.
        log_level: `ELF_LOG_LEVEL`, one of debug, info, warning and error; default `info`.
        log_format: `ELF_LOG_FORMAT`, `json` or `text`; default: text for a terminal, JSON for everything else.
        metrics_port: `ELF_METRICS_PORT`, a port of its own for `/metrics`, which then asks nobody who they are; default
            0: on the main port, for callers on this machine or with a token.
    """

    environment: str = "dev"
    organisation: str = "elf"
    store: str = ".elf/elf.db"
    database_url: str = field(default="", repr=False)
    jwt_secret: str = field(default="", repr=False)
    team_url: str = ""
    public_url: str = ""
    query_token: bool | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    model_keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    offline_url: str = ""
    log_level: str = "info"
    log_format: str = ""
    metrics_port: int = 0

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
    log_level = source.get("ELF_LOG_LEVEL", defaults.log_level).lower()
    if log_level not in _LOG_LEVELS:
        raise BadInput(f"ELF_LOG_LEVEL is {log_level!r}; set it to {', '.join(_LOG_LEVELS)}")
    log_format = source.get("ELF_LOG_FORMAT", "").lower()
    if log_format not in _LOG_FORMATS:
        raise BadInput(f"ELF_LOG_FORMAT is {log_format!r}; set it to json or text")
    query_token = source.get("ELF_QUERY_TOKEN", "").lower()
    if query_token not in _SWITCH:
        raise BadInput(f"ELF_QUERY_TOKEN is {query_token!r}; set it to on or off")
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
        query_token=_SWITCH[query_token],
        host=source.get("ELF_HOST", defaults.host),
        port=_port(source, "ELF_PORT", defaults.port),
        model_keys=MappingProxyType({name: key for name in _PROVIDERS if (key := _secret(source, key_variable(name)))}),
        offline_url=source.get("ELF_OFFLINE_URL", "").rstrip("/"),
        log_level=log_level,
        log_format=log_format,
        metrics_port=_port(source, "ELF_METRICS_PORT", defaults.metrics_port),
    )


def _port(source: Mapping[str, str], name: str, default: int) -> int:
    port = source.get(name, "") or str(default)
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise BadInput(f"{name} is {port!r}; set it to a port number from 0 to 65535")
    return int(port)


def _secret(source: Mapping[str, str], name: str) -> str:
    path = source.get(f"{name}_FILE", "")
    if not path:
        return source.get(name, "").strip()
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadInput(f"{name}_FILE names {path!r}, which cannot be read: {error.strerror}") from None
