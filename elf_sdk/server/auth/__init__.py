"""Who is calling: tokens are issued for one team, and verified by it against what it trusts."""

from __future__ import annotations

from elf_sdk.server.auth.issuer import LEEWAY, Issuer, Principal, Verifier, audience, bearer_token, is_name

__all__ = ["LEEWAY", "Issuer", "Principal", "Verifier", "audience", "bearer_token", "is_name"]
