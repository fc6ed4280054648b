"""Who is calling: tokens are issued for one team, and verified by it against whom it trusts."""

from __future__ import annotations

from elf_sdk.server.auth.issuer import Issuer
from elf_sdk.server.auth.principals import Principal, bearer_token, is_name
from elf_sdk.server.auth.verifier import LEEWAY, Verifier
from elf_sdk.settings import audience

__all__ = ["LEEWAY", "Issuer", "Principal", "Verifier", "audience", "bearer_token", "is_name"]
