"""The `git` program, run without ever asking anybody anything, and what it has against a request in one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from elf_sdk.errors import Failure, Missing, Retryable

__all__ = ["Git", "without_credentials"]

_SECONDS: Final = 120
"""For one command; a remote that says nothing for so long will not say anything."""

_UNREACHABLE: Final = re.compile(
    r"could not resolve host|couldn't connect|failed to connect|connection (refused|timed out|reset)|unable to access|"
    r"does not appear to be a git repository|repository .* not found|not found$|could not read from remote",
    re.IGNORECASE,
)
_WANTS_PASSWORD: Final = re.compile(
    r"could not read (username|password)|terminal prompts disabled|authentication failed|permission denied|"
    r"host key verification failed|HTTP 40[13]|returned error: 40[13]",
    re.IGNORECASE,
)


class Git:
    """`git` in one directory.

    Args:
        directory: it runs in.

    Raises:
        Missing: there is no git.
    """

    def __init__(self, directory: Path) -> None:
        program = shutil.which("git")
        if program is None:
            raise Missing("there is no git on the PATH; install it")
        self.directory = directory
        self._command = (
            program,
            # What was written here is older than what git remembers of it only in what it does not need to know: a
            # directory is taken over by links, which changes the times of inodes and nothing else.
            *("-c", "core.trustctime=false"),
            *("-c", "core.quotePath=false"),
            *("-c", "advice.detachedHead=false"),
            *("-c", "gc.autoDetach=false"),
            # A name that git made up from the machine's own is nobody's.
            *("-c", "user.useConfigOnly=true"),
        )

    def attempt(
        self, *arguments: str, stdin: bytes | None = None, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it; whether it worked is in `returncode`.

        Raises:
            Retryable: it took too long.
        """
        try:
            return subprocess.run(  # noqa: S603 - the program is the user's own git, the arguments are ours
                [*self._command, *arguments],
                cwd=self.directory,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env={**_environ(), **(environ or {})},
            )
        except subprocess.TimeoutExpired:
            raise Retryable(
                f"git {arguments[0]} took more than {_SECONDS} s; look at the remote, and try again"
            ) from None

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Its output.

        Raises:
            Failure: what git has against it.
        """
        return self.output(*arguments, stdin=stdin).decode("utf-8", "surrogateescape")

    def output(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """The same, as it came."""
        done = self.attempt(*arguments, stdin=stdin)
        if done.returncode != 0:
            raise Failure(f"git {arguments[0]} in {self.directory} failed: {said(done)}")
        return done.stdout

    def remote(self, url: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run something that speaks to the remote at `url`; what is left for the caller are the remote's own answers.

        Raises:
            Failure: the remote wants to know who asks, and there is nobody to say so.
            Retryable: it cannot be reached.
        """
        done = self.attempt(*arguments)
        error = _text(done.stderr)
        # Where it has an answer of its own, it was reached, whatever words stand in that.
        if done.returncode != 0 and b"rejected]" not in done.stdout:
            shown = without_credentials(url)
            if _WANTS_PASSWORD.search(error):
                raise Failure(
                    f"{shown} wants to know who asks, and git has no credentials for it; set up a credential helper "
                    "or an SSH key"
                )
            if _UNREACHABLE.search(error):
                raise Retryable(f"{shown} cannot be reached: {said(done)}; check the address and the network")
        return done


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """What git, or a remote's hook, said against it, on one line."""
    lines = [line.strip() for line in _text(done.stderr).splitlines()]
    remote = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    fatal = [re.sub(r"^(fatal|error): ", "", line) for line in lines if re.match(r"fatal: |error: ", line)]
    text = " ".join(part for part in (remote or fatal or lines) if part)
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)[:500] or f"it ended with {done.returncode}"


def without_credentials(url: str) -> str:
    """`url` as it may be shown and written down: without the name and password of a web address."""
    parts = urlsplit(url) if re.match(r"https?://", url) else None
    if parts is None or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _environ() -> dict[str, str]:
    # Inside of a hook GIT_DIR and its like name another repository.
    keep = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT}
    return {
        **keep,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_SSH_COMMAND": keep.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
        "GIT_EDITOR": ":",
    }


_KEPT: Final = frozenset(
    {
        "GIT_AUTHOR_DATE",
        "GIT_AUTHOR_EMAIL",
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_DATE",
        "GIT_COMMITTER_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSL_CAINFO",
        "GIT_SSL_NO_VERIFY",
    }
)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
