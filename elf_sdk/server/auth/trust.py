"""Whom the teams of a process trust, as its settings say, and the reading of their keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import cast

from elf_sdk.server.auth.anchors import Anchor, Cluster, ElfIssuer, ForeignIssuer
from elf_sdk.server.auth.signature import Algorithm
from elf_sdk.server.auth.sources import Discovery, FetchedKeys, KeyFile, KeyUrl, Origin
from elf_sdk.settings import Settings, TrustedIssuer

__all__ = ["Trust"]


class Trust:
    """Who is trusted beside the shared secret.

    Args:
        settings: say who that is.
        namespaces: of teams whose service accounts are not in `settings.namespace`, by name.

    Attributes:
        anchors: one for each issuer.
    """

    def __init__(self, settings: Settings, namespaces: Mapping[str, str] = MappingProxyType({})) -> None:
        self.anchors: tuple[Anchor, ...] = ()
        self._keys: list[FetchedKeys] = []
        if settings.elf_issuer is not None:
            about = settings.elf_issuer
            self.anchors += (ElfIssuer(about.issuer, self._source(about)),)
        if settings.workload_issuer is not None:
            about = settings.workload_issuer
            self.anchors += (Cluster(about.issuer, self._source(about), settings.namespace_name, namespaces),)
        if settings.oidc_issuer is not None:
            about = settings.oidc_issuer
            claims = (about.audience, about.user_claim, about.roles_claim)
            self.anchors += (ForeignIssuer(about.issuer, self._source(about), *claims),)

    @property
    def problem(self) -> str:
        """Whose keys cannot be read, and why; empty where all can."""
        return "; ".join(
            f"the keys of {anchor.issuer}: {anchor.source.problem}" for anchor in self.anchors if anchor.source.problem
        )

    def _source(self, about: TrustedIssuer) -> FetchedKeys:
        origin: Origin
        if about.jwks_file:
            origin = KeyFile(about.jwks_file)
        elif about.jwks_url:
            origin = KeyUrl(about.jwks_url, about.token_file, about.ca_file)
        else:
            origin = Discovery(about.issuer, about.token_file, about.ca_file)
        keys = FetchedKeys(about.issuer, origin, cast("Algorithm", about.algorithm))
        self._keys.append(keys)
        return keys

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[None, None]:
        """Read the keys in the background for as long as the block runs. Nobody waits for them to be there."""
        tasks = [asyncio.create_task(keys.keep(), name="keys") for keys in self._keys]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for keys in self._keys:
                await keys.close()
