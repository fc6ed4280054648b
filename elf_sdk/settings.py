"""The only reader of the environment: variables become one frozen object, once, at start.

Every field says its unit and default. A value that is a secret can also be given as a file: `NAME_FILE` holds the
path, and goes before `NAME`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from elf_sdk.errors import BadInput

__all__ = [
    "ImageSettings",
    "Network",
    "Settings",
    "TrustedIssuer",
    "audience",
    "cache_directory",
    "default_namespace",
    "is_safe_url",
    "key_variable",
    "kubeconfig_files",
    "load_image_settings",
    "load_settings",
    "service_account_server",
    "variable",
]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_LOG_FORMATS: Final = ("", "json", "text")
_SWITCH: Final[Mapping[str, bool | None]] = {"": None, "on": True, "off": False}
_IDEMPOTENCY: Final = ("always", "extension")
_PROVIDERS: Final = ("openai", "anthropic", "openrouter", "ollama", "compatible")
_ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Somebody else who issues tokens, and where the public keys are.

    Attributes:
        issuer: exactly as in `iss` of the tokens.
        algorithm: the only one that the tokens are signed with: EdDSA, ES256 or RS256.
        jwks_file: path of the JWK Set, or empty; read again when it changes.
        jwks_url: address of the JWK Set, or empty; without both the issuer's OpenID configuration says it.
        token_file: path of a bearer token that the address wants, or empty.
        ca_file: path of the certificates that the address is trusted by; empty: the system's.
        audience: of a foreign issuer, what it writes for us; else empty.
        user_claim: of a foreign issuer, the claim with the person's id, dots between names.
        roles_claim: of a foreign issuer, the claim with the roles.
    """

    issuer: str
    algorithm: str
    jwks_file: str = ""
    jwks_url: str = ""
    token_file: str = ""
    ca_file: str = ""
    audience: str = ""
    user_claim: str = ""
    roles_claim: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process was told by its environment.

    Attributes:
        environment: `ELF_ENVIRONMENT`, which environment this is; default `dev`.
        organisation: `ELF_ORGANISATION`, the organisation's name in tokens; default `elf`.
        store: `ELF_STORE`, a SQLite file, or `:memory:` for the volatile log; default `.elf/elf.db`.
        database_url: `ELF_DATABASE_URL`, else `SUPABASE_DB_URL`: a PostgreSQL that goes before `store`; default none.
        jwt_secret: `JWT_SECRET_KEY`, shared secret of at least 32 bytes for HS256; empty means none.
        elf_issuer: trusted to say who people and teams are, by public keys: `ELF_JWKS_FILE` or `ELF_JWKS_URL`, default
            by the issuer's OpenID configuration where it is an https address, `ELF_ISSUER`, default
            `elf:<organisation>:<environment>`, and `ELF_JWKS_ALGORITHM`, default EdDSA. Default: none.
        workload_issuer: the Kubernetes cluster, trusted to say which team a service account is: `ELF_WORKLOAD_ISSUER`,
            `ELF_WORKLOAD_JWKS_FILE` or `ELF_WORKLOAD_JWKS_URL`, default by the issuer's OpenID configuration,
            `ELF_WORKLOAD_JWKS_TOKEN_FILE`, `ELF_WORKLOAD_JWKS_CA_FILE`, and `ELF_WORKLOAD_JWKS_ALGORITHM`, default
            RS256. Default: none.
        oidc_issuer: a foreign issuer, trusted to say who people are: `ELF_OIDC_ISSUER`, `ELF_OIDC_AUDIENCE`,
            `ELF_OIDC_USER_CLAIM`, `ELF_OIDC_ROLES_CLAIM`, `ELF_OIDC_JWKS_FILE` or `ELF_OIDC_JWKS_URL`, default by the
            issuer's OpenID configuration, and `ELF_OIDC_JWKS_ALGORITHM`, default RS256. Default: none.
        namespace: `ELF_NAMESPACE`, the Kubernetes namespace of this environment's teams; default `elf-teams` for prod
            and `elf-teams-<environment>` for any other.
        team_tokens: `ELF_TEAM_TOKENS`, a directory with one file for each team that this one calls, named as the team,
            which holds the token to call it with; read again when it changes. Default: none.
        edges_file: `ELF_EDGES_FILE`, a file with the team's relationships in this environment, as its chart compiled
            them: who may call it, and whom it calls where. Default: none, and then the team's own file says it.
        team_url: `ELF_TEAM_URL`, how teams reach each other, with `{team}` in it; `edges_file` goes before it.
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
        drain: `ELF_DRAIN_SECONDS`, seconds after SIGTERM for runs to end that no other process can go on with; default
            25, in dev 0.
        model_keys: `<PROVIDER>_API_KEY` by provider, as it was at the start.
        model_key_files: of those that are in a file, its absolute path by provider; read again for each call.
        offline_url: `ELF_OFFLINE_URL`, a running offline model; default: the server starts its own.
        push_allow: `ELF_PUSH_ALLOW`, hosts, addresses and networks that push notifications may go to although they are
            not public, with commas between; `http://` before one where it has no HTTPS; default none.
        log_level: `ELF_LOG_LEVEL`, one of debug, info, warning and error; default `info`.
        log_format: `ELF_LOG_FORMAT`, `json` or `text`; default: text for a terminal, JSON for everything else.
        image_digest: `ELF_IMAGE_DIGEST`, `sha256:…` of the container image that this process runs in, which the chat's
            greeting and `/health` show; set by the chart. Default: none.
        gitops_repo_url: `GITOPS_REPO_URL`, the git repository that Argo CD watches, for `elf gitops`; goes before
            `gitops.url` of elf.yaml; default none.
        metrics_port: `ELF_METRICS_PORT`, a port of its own for `/metrics`, which then asks nobody who they are; default
            0: on the main port, for callers on this machine or with a token.
    """

    environment: str = "dev"
    organisation: str = "elf"
    store: str = ".elf/elf.db"
    database_url: str = field(default="", repr=False)
    jwt_secret: str = field(default="", repr=False)
    elf_issuer: TrustedIssuer | None = None
    workload_issuer: TrustedIssuer | None = None
    oidc_issuer: TrustedIssuer | None = None
    namespace: str = ""
    team_tokens: str = ""
    edges_file: str = ""
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
    drain: int | None = None
    model_keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    model_key_files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    offline_url: str = ""
    push_allow: tuple[str, ...] = ()
    log_level: str = "info"
    log_format: str = ""
    image_digest: str = ""
    gitops_repo_url: str = field(default="", repr=False)
    metrics_port: int = 0

    @property
    def takes_query_token(self) -> bool:
        """Whether the chat takes a token in its address, default applied. Addresses end up in logs of proxies."""
        return self.environment == "dev" if self.query_token is None else self.query_token

    @property
    def drain_seconds(self) -> int:
        """Seconds for runs to end after SIGTERM, default applied: a developer does not want to wait."""
        return self.drain if self.drain is not None else 0 if self.environment == "dev" else 25

    @property
    def namespace_name(self) -> str:
        """The namespace of this environment's teams, default applied."""
        return self.namespace or default_namespace(self.environment)


def audience(organisation: str, environment: str, team: str) -> str:
    """Whom a token is for: one team in one environment of one organisation."""
    return f"elf:{organisation}:{environment}:{team}"


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What those who build, push and name images were told by their environment.

    Attributes:
        registry: `DOCKER_REGISTRY`, a prefix of every image, such as `registry.example.com/agents`; goes before what
            elf.yaml and team.yaml say; default none.
        source_date_epoch: `SOURCE_DATE_EPOCH`, when the sources were made, in seconds since 1970, as
            reproducible-builds.org defines it; default none.
        credentials: files in which docker and podman keep what opens registries, the first of them that knows a
            registry counts: `REGISTRY_AUTH_FILE`, `config.json` in `DOCKER_CONFIG`, and their default places.
        proxies: addresses of the proxies that requests of this user go through.
    """

    registry: str = ""
    source_date_epoch: int | None = None
    credentials: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()


_REGISTRY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


def load_image_settings(environ: Mapping[str, str] | None = None) -> ImageSettings:
    """What `environ`, by default the process's own, says about images.

    Raises:
        BadInput: a variable holds what it cannot; the message names it.
    """
    source = os.environ if environ is None else environ
    registry = source.get("DOCKER_REGISTRY", "").rstrip("/")
    if registry and not _REGISTRY.fullmatch(registry):
        raise BadInput(
            f"DOCKER_REGISTRY is {registry!r}; set it to a host and a path, such as registry.example.com/agents"
        )
    epoch = source.get("SOURCE_DATE_EPOCH", "")
    if epoch and not (epoch.isdecimal() and int(epoch) < 1 << 33):
        raise BadInput(f"SOURCE_DATE_EPOCH is {epoch!r}; set it to whole seconds since 1970")
    home = source.get("HOME", "")
    places = (
        (source.get("REGISTRY_AUTH_FILE", ""), ""),
        (source.get("XDG_RUNTIME_DIR", ""), "containers/auth.json"),
        (source.get("XDG_CONFIG_HOME", "") or (home and f"{home}/.config"), "containers/auth.json"),
        (source.get("DOCKER_CONFIG", "") or (home and f"{home}/.docker"), "config.json"),
    )
    return ImageSettings(
        registry=registry,
        source_date_epoch=int(epoch) if epoch else None,
        credentials=tuple(str(Path(place, name)) for place, name in places if place),
        proxies=tuple(
            value
            for name in ("http_proxy", "https_proxy", "all_proxy")
            if (value := source.get(name, "") or source.get(name.upper(), ""))
        ),
    )


def default_namespace(environment: str) -> str:
    """The Kubernetes namespace of an environment's teams, unless it is told otherwise."""
    return "elf-teams" if environment == "prod" else f"elf-teams-{environment}"


def is_safe_url(url: str) -> bool:
    """Whether keys can be taken from an address: by https, or from this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


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
    drain = source.get("ELF_DRAIN_SECONDS", "")
    if drain and not (drain.isdecimal() and int(drain) <= 86_400):
        raise BadInput(f"ELF_DRAIN_SECONDS is {drain!r}; set it to a number of seconds from 0 to 86400")
    query_token = source.get("ELF_QUERY_TOKEN", "").lower()
    if query_token not in _SWITCH:
        raise BadInput(f"ELF_QUERY_TOKEN is {query_token!r}; set it to on or off")
    a2a_compat = source.get("ELF_A2A_COMPAT", "").lower()
    if a2a_compat not in _SWITCH:
        raise BadInput(f"ELF_A2A_COMPAT is {a2a_compat!r}; set it to on or off")
    a2a_idempotency = source.get("ELF_A2A_IDEMPOTENCY", defaults.a2a_idempotency).lower()
    if a2a_idempotency not in _IDEMPOTENCY:
        raise BadInput(f"ELF_A2A_IDEMPOTENCY is {a2a_idempotency!r}; set it to {' or '.join(_IDEMPOTENCY)}")
    image_digest = source.get("ELF_IMAGE_DIGEST", "")
    if image_digest and not _DIGEST.fullmatch(image_digest):
        raise BadInput(f"ELF_IMAGE_DIGEST is {image_digest!r}; set it to sha256: and 64 hexadecimal digits")
    secret = _secret(source, "JWT_SECRET_KEY")
    if secret and len(secret.encode()) < 32:
        raise BadInput(f"JWT_SECRET_KEY has {len(secret.encode())} bytes; HS256 needs at least 32")
    environment = source.get("ELF_ENVIRONMENT", defaults.environment)
    organisation = source.get("ELF_ORGANISATION", defaults.organisation)
    own = f"elf:{organisation}:{environment}"
    trusted = {
        prefix: _trusted(source, prefix, default, algorithm)
        for prefix, default, algorithm in (
            ("ELF", own, "EdDSA"),
            ("ELF_WORKLOAD", "", "RS256"),
            ("ELF_OIDC", "", "RS256"),
        )
    }
    _no_two_alike(trusted, own if secret else "")
    return Settings(
        environment=environment,
        organisation=organisation,
        store=source.get("ELF_STORE", defaults.store),
        database_url=_secret(source, "ELF_DATABASE_URL") or _secret(source, "SUPABASE_DB_URL"),
        jwt_secret=secret,
        elf_issuer=trusted["ELF"],
        workload_issuer=trusted["ELF_WORKLOAD"],
        oidc_issuer=trusted["ELF_OIDC"],
        namespace=source.get("ELF_NAMESPACE", ""),
        team_tokens=source.get("ELF_TEAM_TOKENS", ""),
        edges_file=source.get("ELF_EDGES_FILE", ""),
        team_url=source.get("ELF_TEAM_URL", ""),
        public_url=source.get("ELF_PUBLIC_URL", "").rstrip("/"),
        trusted_proxies=_networks(source.get("ELF_TRUSTED_PROXIES", "")),
        a2a_compat=_SWITCH[a2a_compat] is not False,
        a2a_idempotency=a2a_idempotency,
        query_token=_SWITCH[query_token],
        host=source.get("ELF_HOST", defaults.host),
        port=_port(source, "ELF_PORT", defaults.port),
        grpc_port=_port(source, "ELF_GRPC_PORT", 0) if source.get("ELF_GRPC_PORT") else None,
        grpc_address=source.get("ELF_GRPC_ADDRESS", ""),
        drain=int(drain) if drain else None,
        model_keys=MappingProxyType({name: key for name in _PROVIDERS if (key := _secret(source, key_variable(name)))}),
        model_key_files=MappingProxyType(
            {
                name: str(Path(path).absolute())
                for name in _PROVIDERS
                if (path := source.get(f"{key_variable(name)}_FILE", ""))
            }
        ),
        offline_url=source.get("ELF_OFFLINE_URL", "").rstrip("/"),
        push_allow=tuple(entry.strip() for entry in source.get("ELF_PUSH_ALLOW", "").split(",") if entry.strip()),
        log_level=log_level,
        log_format=log_format,
        image_digest=image_digest,
        gitops_repo_url=source.get("GITOPS_REPO_URL", "").strip(),
        metrics_port=_port(source, "ELF_METRICS_PORT", defaults.metrics_port),
    )


def _port(source: Mapping[str, str], name: str, default: int) -> int:
    port = source.get(name, "") or str(default)
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


def _trusted(source: Mapping[str, str], prefix: str, default_issuer: str, algorithm: str) -> TrustedIssuer | None:
    """The issuer that the variables of a prefix describe; None where there are none."""
    jwks = f"{prefix}_JWKS"
    issuer = source.get(f"{prefix}_ISSUER", "")
    path, url = source.get(f"{jwks}_FILE", ""), source.get(f"{jwks}_URL", "")
    if not (issuer or path or url):
        return None
    if path and url:
        raise BadInput(f"{jwks}_FILE and {jwks}_URL are both set; keep one of them")
    if default_issuer and not (path or url or is_safe_url(issuer)):
        raise BadInput(f"{prefix}_ISSUER is set without its keys; set {jwks}_FILE or {jwks}_URL too")
    issuer = issuer or default_issuer
    if not issuer:
        raise BadInput(f"{jwks}_FILE or {jwks}_URL is set without {prefix}_ISSUER; set it to the `iss` of the tokens")
    if url and not is_safe_url(url):
        raise BadInput(f"{jwks}_URL is {url!r}; set it to an https address, so that nobody on the way can change keys")
    if not (path or url or is_safe_url(issuer)):
        raise BadInput(f"{prefix}_ISSUER is {issuer!r}, which is no https address; set {jwks}_FILE or {jwks}_URL too")
    chosen = source.get(f"{jwks}_ALGORITHM", algorithm)
    if chosen not in _ALGORITHMS:
        raise BadInput(f"{jwks}_ALGORITHM is {chosen!r}; set it to one of {', '.join(_ALGORITHMS)}")
    meaning: dict[str, str] = {}
    if prefix == "ELF_OIDC":
        meaning = {
            name: source.get(f"{prefix}_{name.upper()}", "") for name in ("audience", "user_claim", "roles_claim")
        }
        for name, value in meaning.items():
            if not value:
                raise BadInput(f"ELF_OIDC_ISSUER is set without {prefix}_{name.upper()}; a foreign issuer needs it")
    return TrustedIssuer(
        issuer,
        chosen,
        path,
        url,
        source.get(f"{jwks}_TOKEN_FILE", "") if prefix == "ELF_WORKLOAD" else "",
        source.get(f"{jwks}_CA_FILE", "") if prefix == "ELF_WORKLOAD" else "",
        **meaning,
    )


def _no_two_alike(trusted: Mapping[str, TrustedIssuer | None], own: str) -> None:
    """Refuse two anchors with one name: a token could then choose between two algorithms."""
    names = {own: "JWT_SECRET_KEY"} if own else {}
    for prefix, issuer in trusted.items():
        if issuer is None:
            continue
        if issuer.issuer in names:
            raise BadInput(
                f"{names[issuer.issuer]} and {prefix}_ISSUER both speak for {issuer.issuer!r}; remove one of them, or "
                "give them different names"
            )
        names[issuer.issuer] = f"{prefix}_ISSUER"


def _secret(source: Mapping[str, str], name: str) -> str:
    path = source.get(f"{name}_FILE", "")
    if not path:
        return source.get(name, "").strip()
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadInput(f"{name}_FILE names {path!r}, which cannot be read: {error.strerror}") from None


def variable(name: str, environ: Mapping[str, str] | None = None) -> str:
    """A variable that a team.yaml names, or what is in the file that `<name>_FILE` names; empty where there is neither.

    Read when it is asked for, so that a file which changes is seen.

    Raises:
        BadInput: the file cannot be read.
    """
    return _secret(os.environ if environ is None else environ, name)


def cache_directory(environ: Mapping[str, str] | None = None) -> Path | None:
    """Where commands may keep what they can compute again; None for nowhere.

    `ELF_CACHE_DIR`, where `off` means nowhere; else `elf` in `XDG_CACHE_HOME`, else `~/.cache/elf`.
    """
    source = os.environ if environ is None else environ
    given = source.get("ELF_CACHE_DIR", "")
    if not given:
        base = source.get("XDG_CACHE_HOME", "")
        # XDG Base Directory Specification: a path that is not absolute is ignored.
        given = f"{base if base.startswith('/') else source.get('HOME', '') + '/.cache'}/elf"
    return Path(given) if given.startswith("/") else None


def kubeconfig_files(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """The files that `KUBECONFIG` names, as kubectl reads it; by default `~/.kube/config`."""
    source = os.environ if environ is None else environ
    named = tuple(Path(file) for file in source.get("KUBECONFIG", "").split(os.pathsep) if file)
    return named or (Path("~/.kube/config").expanduser(),)


def service_account_server(environ: Mapping[str, str] | None = None) -> str:
    """The address of the API server as a pod finds it (`KUBERNETES_SERVICE_HOST`); empty elsewhere."""
    source = os.environ if environ is None else environ
    host, port = source.get("KUBERNETES_SERVICE_HOST", ""), source.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""
