"""What it takes to say who calls: a token seen before, and one that is new, beside PyJWT alone in alternating rounds.

    PYTHONPATH=. python benchmarks/tokens.py [--rounds 9] [--json FILE]

CPU time in microseconds a token; the table shows medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jwt

from elf_sdk.server.auth import Issuer, Verifier, audience
from elf_sdk.server.auth.anchors import ElfIssuer
from elf_sdk.server.auth.sources import FetchedKeys
from tests.server.signing import SigningKey, claims, key_set

ISSUER: Final = "elf:bench:dev"
AUDIENCE: Final = audience("bench", "dev", "team")
SECRET: Final = "not-a-secret-only-for-this-benchmark" + "x" * 16
REQUIRED: Final = ["iss", "aud", "sub", "iat", "exp", "jti"]
NEW: Final = 500
SEEN: Final = 20_000


class Published:
    """A key set at hand."""

    period = 3600.0

    def __init__(self, key: SigningKey) -> None:
        self._data = key_set(key)

    async def read(self) -> bytes:
        """The key set."""
        return self._data


async def prepared(algorithm: str) -> tuple[Callable[[], Verifier], list[str], Any]:
    """A verifier that remembers nothing yet, new tokens, and the key for PyJWT."""
    if algorithm == "HS256":
        issuer = Issuer(SECRET, "bench", "dev")
        tokens = [issuer.user_token("ada", "team") for _ in range(NEW)]
        return lambda: Verifier(SECRET, "bench", "dev", "team"), tokens, SECRET
    key = SigningKey(algorithm)
    tokens = [key.sign(claims(ISSUER, AUDIENCE, "user:ada", roles=["user"])) for _ in range(NEW)]
    keys = FetchedKeys(ISSUER, Published(key), algorithm)  # type: ignore[arg-type]
    await keys.read()
    return lambda: Verifier("", "bench", "dev", "team", [ElfIssuer(ISSUER, keys)]), tokens, key.public


async def one_round(algorithm: str, verifier: Verifier, tokens: list[str], key: Any) -> dict[str, float]:
    """Microseconds of CPU time a token."""
    begin = time.process_time()
    for token in tokens:
        await verifier.identify(token)
    new = time.process_time()
    for _ in range(SEEN):
        await verifier.identify(tokens[0])
    seen = time.process_time()
    for token in tokens:
        options: Any = {"require": REQUIRED, "strict_aud": True}
        jwt.decode(token, key, [algorithm], options, audience=AUDIENCE, issuer=ISSUER, leeway=30)
    alone = time.process_time()
    return {
        "new_us": (new - begin) / len(tokens) * 1e6,
        "seen_us": (seen - new) / SEEN * 1e6,
        "pyjwt_us": (alone - seen) / len(tokens) * 1e6,
    }


async def measure(rounds: int) -> list[dict[str, Any]]:
    """A row for each algorithm."""
    cases = {algorithm: await prepared(algorithm) for algorithm in ("HS256", "ES256", "EdDSA", "RS256")}
    found: dict[str, list[dict[str, float]]] = {algorithm: [] for algorithm in cases}
    for _ in range(rounds):
        for algorithm, (fresh, tokens, key) in cases.items():
            found[algorithm].append(await one_round(algorithm, fresh(), tokens, key))
    return [
        {"algorithm": algorithm, **{name: statistics.median(row[name] for row in rows) for name in rows[0]}}
        for algorithm, rows in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = asyncio.run(measure(arguments.rounds))
    print(f"{'algorithm':<11}{'seen before us':>15}{'new us':>9}{'PyJWT alone us':>16}")
    for row in rows:
        print(f"{row['algorithm']:<11}{row['seen_us']:>15.2f}{row['new_us']:>9.0f}{row['pyjwt_us']:>16.0f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
