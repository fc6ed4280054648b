"""The company's issuer: signs people's tokens with a key of which the teams know the public half only."""

from __future__ import annotations

import json
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Signer"]

_KEY_ID = "company-1"


class Signer:
    """Signs for one organisation, as `issuer`, with a key made now."""

    def __init__(self, issuer: str, organisation: str) -> None:
        self._issuer = issuer
        self._organisation = organisation
        self._key = Ed25519PrivateKey.generate()

    def jwks(self) -> str:
        """The public half, as a JWK Set (RFC 7517)."""
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": _KEY_ID, "alg": "EdDSA", "use": "sig"}]})

    def token(self, environment: str, team: str, user: str) -> str:
        """With which `user` may talk to `team` there, for an hour."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": f"elf:{self._organisation}:{environment}:{team}",
            "sub": f"user:{user}",
            "user_id": user,
            "team_id": team,
            "roles": ["user"],
            "iat": now,
            "exp": now + 3600,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": _KEY_ID})
