"""What a builder's last lines mean: one sentence where the reason is known, else the lines themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from elf_sdk.deploy.image.program import last_line
from elf_sdk.deploy.reference import Reference
from elf_sdk.errors import Denied, ElfError, Failure, Retryable

__all__ = ["build_failure", "push_failure"]

_BASE: Final = re.compile(
    r"creating build container|resolve source metadata|load metadata for|error pulling image", re.IGNORECASE
)
_FULL: Final = re.compile(r"no space left on device", re.IGNORECASE)
_HASHES: Final = re.compile(r"DO NOT MATCH THE HASHES|hashes are required|Hashes are required")
_NO_PACKAGE: Final = re.compile(
    r"(?:No matching distribution found for|Could not find a version that satisfies.*?) (\S+)"
)
_OURS: Final = re.compile(r"^(?:.*\s)?elf: (.+)$")


def build_failure(base: str, lines: Sequence[str]) -> Failure:
    """What the last lines of a build on `base` mean."""
    text = "\n".join(lines)
    for line in lines:
        if own := _OURS.match(line):
            return Failure(own[1])
    if _FULL.search(text):
        return Failure("the disk of the builder is full; free some space (its `system prune` or `rmi`), and try again")
    if _BASE.search(text):
        line = next(line for line in lines if _BASE.search(line))
        return Failure(
            f"the base image {base} cannot be had: {line}; name another under image.base, or with --base, or log in to "
            "its registry"
        )
    if missing := _NO_PACKAGE.search(text):
        return Failure(
            f"no package index that pip knows here answers and has {missing[1]} as a wheel for the base image's "
            "Python; see pip config list, and --verbose"
        )
    if _HASHES.search(text):
        return Failure(f"a package is not the one that is locked: {last_line(lines)}")
    return Failure("\n".join(["the build failed; it ended with:", *(f"    {line}" for line in lines)]))


_DENIED: Final = re.compile(r"denied|unauthorized|authentication required|forbidden|\b40[13]\b", re.IGNORECASE)
_UNREACHED: Final = re.compile(
    r"connection refused|no such host|timeout|timed out|unreachable|EOF|connection reset", re.IGNORECASE
)
_PLAIN: Final = re.compile(
    r"gave HTTP response to HTTPS|first record does not look like a TLS handshake", re.IGNORECASE
)


def push_failure(reference: Reference, lines: Sequence[str]) -> ElfError:
    """What the last lines of a push of `reference` mean."""
    reason, registry = last_line(lines), reference.registry
    if _PLAIN.search(reason):
        return Failure(f"the registry {registry} has no TLS, which is taken on loopback only; give it a certificate")
    if _DENIED.search(reason):
        return Denied(
            f"the registry {registry} refuses {reference}: {reason}; log in to it, or ask for the right to push"
        )
    if _UNREACHED.search(reason):
        return Retryable(f"the registry {registry} is not reached: {reason}; try again when it is")
    return Failure(f"{reference} could not be pushed: {reason}")
