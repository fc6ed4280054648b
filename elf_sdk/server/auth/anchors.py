"""Whom a team trusts to say who calls: each anchor is one issuer, one algorithm, and what its claims mean. Pure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

from typing_extensions import override

from elf_sdk.errors import Forbidden, Unauthenticated
from elf_sdk.runs.adapter import Owner
from elf_sdk.server.auth.keys import KeySource
from elf_sdk.server.auth.principals import Principal, is_name

__all__ = ["Anchor", "Cluster", "ElfIssuer", "ForeignIssuer"]

_MOST_ROLES: Final = 100
_SERVICE_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")


class Anchor(ABC):
    """An issuer that is trusted.

    Args:
        issuer: exactly as in `iss`.
        source: its keys, which are all of one algorithm.
    """

    required: ClassVar[tuple[str, ...]] = ("aud", "sub", "iat", "exp")
    """Claims without which a token proves nothing, beside `iss`."""
    types: ClassVar[frozenset[str]] = frozenset({"", "jwt"})
    """The types of token that are for calling (RFC 7515, section 4.1.9), in small letters. A grant or a ticket has
    another, so it is never taken for the token of whom it is about."""

    def __init__(self, issuer: str, source: KeySource) -> None:
        self.issuer = issuer
        self.source = source

    @abstractmethod
    def is_for(self, given: Any, audience: str) -> bool:
        """Whether the claim `aud` is for the team whose audience that is."""

    @abstractmethod
    def principal(self, claims: dict[str, Any], expires_at: int) -> Principal:
        """The caller, from claims that are signed, for us and in time.

        Raises:
            Unauthenticated: they do not say who that is.
            Forbidden: they do, and it is nobody who can call.
        """


class ElfIssuer(Anchor):
    """ELF's own issuer: `user:<id>` with `roles` is a person, `team:<name>` a team."""

    required = (*Anchor.required, "jti")

    @override
    def is_for(self, given: Any, audience: str) -> bool:
        # Never a list: a token that works at two teams lets each of them call the other in the caller's name.
        return bool(given == audience)

    @override
    def principal(self, claims: dict[str, Any], expires_at: int) -> Principal:
        subject = claims["sub"]
        kind, _, name = subject.partition(":")
        roles = claims.get("roles", [])
        if not is_name(name) or not isinstance(roles, list):
            raise _nobody()
        owner = Owner(self.issuer, subject)
        if kind == "user":
            return Principal(owner, "user", name, _roles(roles), expires_at)
        if kind == "team":
            return Principal(owner, "team", name, frozenset(), expires_at)
        raise _nobody()


class Cluster(Anchor):
    """A Kubernetes cluster's projected service-account tokens: the account's name is the team's.

    Args:
        issuer: the cluster's, exactly as in `iss`.
        source: its keys.
        namespace: of the teams of this environment.
        elsewhere: the namespaces of those teams that have one of their own, by name.
    """

    def __init__(
        self, issuer: str, source: KeySource, namespace: str, elsewhere: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(issuer, source)
        self._namespace = namespace
        self._elsewhere = elsewhere

    @override
    def is_for(self, given: Any, audience: str) -> bool:
        # An API server always writes a list. A volume names one audience, so another beside ours was put there by hand.
        return bool(given == [audience] or given == audience)

    @override
    def principal(self, claims: dict[str, Any], expires_at: int) -> Principal:
        subject = claims["sub"]
        account = _SERVICE_ACCOUNT.fullmatch(subject)
        if account is None:
            raise _nobody()
        namespace, name = account.groups()
        bound = claims.get("kubernetes.io")
        if not (
            isinstance(bound, dict)
            and bound.get("namespace") == namespace
            and isinstance(bound.get("serviceaccount"), dict)
            and bound["serviceaccount"].get("name") == name
        ):
            raise Unauthenticated("the token is not one that a cluster makes for a pod: subject and binding differ")
        expected = self._elsewhere.get(name, self._namespace)
        if namespace != expected:
            raise Forbidden(
                f"the service account {name!r} of the namespace {namespace!r} may not call; teams of this environment "
                f"are in {expected!r}"
            )
        # The subject has neither pod nor token in it, so a restarted caller finds what it began.
        return Principal(Owner(self.issuer, subject), "team", name, frozenset(), expires_at)


class ForeignIssuer(Anchor):
    """An OpenID provider that signs people in, with what its claims mean here.

    Args:
        issuer: exactly as in `iss`.
        source: its keys.
        audience: what it writes for us.
        user_claim: path of the claim with the person's id, with dots between names.
        roles_claim: path of the claim with the roles: a list, or text with spaces between them.
    """

    types = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})

    def __init__(self, issuer: str, source: KeySource, audience: str, user_claim: str, roles_claim: str) -> None:
        super().__init__(issuer, source)
        self._audience = audience
        self._user_claim = user_claim
        self._roles_claim = roles_claim

    @override
    def is_for(self, given: Any, audience: str) -> bool:
        return given == self._audience or (isinstance(given, list) and self._audience in given)

    @override
    def principal(self, claims: dict[str, Any], expires_at: int) -> Principal:
        name = _at(claims, self._user_claim)
        roles = _at(claims, self._roles_claim)
        if isinstance(roles, str):
            roles = roles.split()
        if not isinstance(name, str) or not is_name(name) or not is_name(claims["sub"]):
            raise _nobody()
        # The owner goes by the subject alone: what else identifies a person, such as a mail address, can change hands.
        owner = Owner(self.issuer, f"user:{claims['sub']}")
        return Principal(owner, "user", name, _roles(roles if isinstance(roles, list) else []), expires_at)


def _roles(given: list[Any]) -> frozenset[str]:
    return frozenset(str(role) for role in given[:_MOST_ROLES])


def _at(claims: dict[str, Any], path: str) -> Any:
    """The claim at a path; a name that itself has dots, such as a URL, is found whole first."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _nobody() -> Unauthenticated:
    return Unauthenticated("the token does not say who the caller is")
