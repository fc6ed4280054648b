"""Settings from an environment: defaults, files for secrets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from elf_sdk.errors import BadInput
from elf_sdk.settings import Settings, TrustedIssuer, load_settings

OIDC = {"ELF_OIDC_AUDIENCE": "app", "ELF_OIDC_USER_CLAIM": "sub", "ELF_OIDC_ROLES_CLAIM": "roles"}


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_a_secret_in_a_file_goes_before_the_variable_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 40 + "\n")
    settings = load_settings(
        {
            "JWT_SECRET_KEY": "v" * 40,
            "JWT_SECRET_KEY_FILE": str(tmp_path / "key"),
            "OPENAI_API_KEY": "from the variable",
        }
    )
    assert settings.jwt_secret == "k" * 40
    assert settings.model_keys == {"openai": "from the variable"}
    assert "kkk" not in repr(settings)
    assert "from the variable" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ELF_PORT": "http"}, "ELF_PORT is 'http'; set it to a port number from 0 to 65535"),
        ({"ELF_PORT": "65536"}, "ELF_PORT is '65536'"),
        ({"ELF_GRPC_PORT": "grpc"}, "ELF_GRPC_PORT is 'grpc'; set it to a port number from 0 to 65535"),
        ({"ELF_LOG_LEVEL": "loud"}, "ELF_LOG_LEVEL is 'loud'; set it to debug, info, warning, error"),
        ({"ELF_METRICS_PORT": "-1"}, "ELF_METRICS_PORT is '-1'; set it to a port number from 0 to 65535"),
        ({"ELF_LOG_FORMAT": "xml"}, "ELF_LOG_FORMAT is 'xml'; set it to json or text"),
        ({"ELF_QUERY_TOKEN": "yes"}, "ELF_QUERY_TOKEN is 'yes'; set it to on or off"),
        ({"ELF_A2A_COMPAT": "0.3"}, "ELF_A2A_COMPAT is '0.3'; set it to on or off"),
        ({"ELF_A2A_IDEMPOTENCY": "off"}, "ELF_A2A_IDEMPOTENCY is 'off'; set it to always or extension"),
        (
            {"ELF_TRUSTED_PROXIES": "10.0.0.0/8, proxy"},
            "ELF_TRUSTED_PROXIES is '10.0.0.0/8, proxy', where 'proxy' does",
        ),
        ({"ELF_TRUSTED_PROXIES": "10.0.0.1/8"}, "ELF_TRUSTED_PROXIES is '10.0.0.1/8', where 10.0.0.1/8 has host bits"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY has 5 bytes; HS256 needs at least 32"),
        ({"ELF_ISSUER": "x"}, "ELF_ISSUER is set without its keys; set ELF_JWKS_FILE or ELF_JWKS_URL too"),
        ({"ELF_JWKS_FILE": "a", "ELF_JWKS_URL": "b"}, "ELF_JWKS_FILE and ELF_JWKS_URL are both set; keep one of them"),
        ({"ELF_JWKS_URL": "http://issuer.example/jwks"}, "ELF_JWKS_URL is 'http://issuer.example/jwks'; set it to an"),
        ({"ELF_JWKS_URL": "file:///etc/passwd"}, "ELF_JWKS_URL is 'file:///etc/passwd'; set it to an https address"),
        ({"ELF_JWKS_URL": "https://[x/jwks"}, "ELF_JWKS_URL is 'https://[x/jwks'; set it to an https address"),
        ({"ELF_JWKS_FILE": "a", "ELF_JWKS_ALGORITHM": "HS256"}, "ELF_JWKS_ALGORITHM is 'HS256'; set it to one of Ed"),
        ({"ELF_JWKS_FILE": "a", "JWT_SECRET_KEY": "k" * 32}, "JWT_SECRET_KEY and ELF_ISSUER both speak for 'elf:elf:"),
        ({"ELF_WORKLOAD_JWKS_FILE": "a"}, "ELF_WORKLOAD_JWKS_FILE or ELF_WORKLOAD_JWKS_URL is set without ELF_WORK"),
        ({"ELF_WORKLOAD_ISSUER": "cluster"}, "ELF_WORKLOAD_ISSUER is 'cluster', which is no https address; set ELF_"),
        (
            {"ELF_WORKLOAD_ISSUER": "https://a", "ELF_OIDC_ISSUER": "https://a", **OIDC},
            "ELF_WORKLOAD_ISSUER and ELF_OIDC_ISSUER both speak for 'https://a'; remove one of them, or give them",
        ),
        *(
            ({"ELF_OIDC_ISSUER": "https://a", **OIDC, name: ""}, f"ELF_OIDC_ISSUER is set without {name}; a foreign")
            for name in OIDC
        ),
        ({"ELF_IMAGE_DIGEST": "sha256:5e"}, "ELF_IMAGE_DIGEST is 'sha256:5e'; set it to sha256: and 64 hexadecimal"),
        ({"OPENAI_API_KEY_FILE": "/nowhere/key"}, "OPENAI_API_KEY_FILE names '/nowhere/key', which cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_settings(variables)
    assert str(caught.value).startswith(message)


def test_proxies_are_addresses_and_networks() -> None:
    networks = load_settings({"ELF_TRUSTED_PROXIES": "10.1.2.3, fd00::/8,"}).trusted_proxies
    assert [str(network) for network in networks] == ["10.1.2.3/32", "fd00::/8"]


@pytest.mark.parametrize(
    ("environment", "switch", "taken"),
    [("dev", "", True), ("prod", "", False), ("prod", "ON", True), ("dev", "off", False)],
)
def test_tokens_in_addresses_are_for_dev_unless_switched(environment: str, switch: str, taken: bool) -> None:
    assert load_settings({"ELF_ENVIRONMENT": environment, "ELF_QUERY_TOKEN": switch}).takes_query_token is taken


def test_who_is_trusted_is_read_with_its_defaults() -> None:
    settings = load_settings(
        {
            "ELF_ORGANISATION": "acme",
            "ELF_ENVIRONMENT": "staging",
            "ELF_JWKS_FILE": "/keys/elf.json",
            "ELF_WORKLOAD_ISSUER": "https://kubernetes.default.svc",
            "ELF_WORKLOAD_JWKS_URL": "https://kubernetes.default.svc/openid/v1/jwks",
            "ELF_WORKLOAD_JWKS_TOKEN_FILE": "/tokens/api",
            "ELF_WORKLOAD_JWKS_CA_FILE": "/tokens/ca.crt",
            "ELF_OIDC_ISSUER": "https://login.example",
            **OIDC,
        }
    )
    assert settings.elf_issuer == TrustedIssuer("elf:acme:staging", "EdDSA", "/keys/elf.json")
    assert settings.workload_issuer == TrustedIssuer(
        "https://kubernetes.default.svc",
        "RS256",
        jwks_url="https://kubernetes.default.svc/openid/v1/jwks",
        token_file="/tokens/api",
        ca_file="/tokens/ca.crt",
    )
    assert settings.oidc_issuer == TrustedIssuer(
        "https://login.example", "RS256", audience="app", user_claim="sub", roles_claim="roles"
    )


@pytest.mark.parametrize(
    ("variables", "namespace"),
    [
        ({}, "elf-teams-dev"),
        ({"ELF_ENVIRONMENT": "prod"}, "elf-teams"),
        ({"ELF_ENVIRONMENT": "prod", "ELF_NAMESPACE": "agents"}, "agents"),
    ],
)
def test_the_namespace_follows_the_environment(variables: dict[str, str], namespace: str) -> None:
    assert load_settings(variables).namespace_name == namespace


def test_what_push_notifications_may_go_to_is_a_list() -> None:
    assert load_settings({"ELF_PUSH_ALLOW": " hooks.internal , ,10.0.0.0/8"}).push_allow == (
        "hooks.internal",
        "10.0.0.0/8",
    )
