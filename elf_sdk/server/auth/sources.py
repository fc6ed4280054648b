"""Where an issuer's public keys come from, and for how long they serve.

The last good set serves for 24 hours when its source is away. A token that names an unknown key makes the source be
asked again, at most once in 30 seconds however many of them come.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from elf_sdk.errors import ElfError, Retryable
from elf_sdk.server.auth.keys import KeySet, read_key_set
from elf_sdk.server.auth.signature import Algorithm, Key
from elf_sdk.settings import is_safe_url

if TYPE_CHECKING:
    import httpx

__all__ = ["Discovery", "FetchedKeys", "KeyFile", "KeyUrl", "Origin"]

log = logging.getLogger("elf.auth")

LAST_GOOD: Final = 24 * 3600.0
"""Seconds that keys serve after they were last read."""
ASK_AGAIN: Final = 30.0
"""Seconds between two fetches that unknown keys cause, and between two tries after a failure."""
_FIRST_AGAIN: Final = 1.0
"""Seconds before the second try of a source that could not be read yet; twice as long before each one after."""
_FETCH_TIMEOUT: Final = 5.0
_LARGEST: Final = 256 * 1024
"""Bytes in a key set, or in an OpenID configuration."""
_EMPTY: Final = KeySet()


class Origin(Protocol):
    """A place that holds a JWK Set.

    Attributes:
        period: seconds between two looks at it.
    """

    period: float

    async def read(self) -> bytes:
        """The JWK Set.

        Raises:
            Retryable: it cannot be read now.
        """
        ...


class KeyFile:
    """A file, such as a ConfigMap's: it changes by exchange of a link, so its path is followed anew each time.

    Args:
        path: of the file.
        period: seconds between two looks at it.
    """

    def __init__(self, path: str, period: float = 5.0) -> None:
        self.period = period
        self._path = Path(path)

    def __str__(self) -> str:
        return str(self._path)

    async def read(self) -> bytes:
        """The file's content. It is read in a thread: a volume can hang.

        Raises:
            Retryable: it cannot be read, or is too large.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise Retryable(f"it cannot be read: {error.strerror}") from None
        if len(data) > _LARGEST:
            raise Retryable(f"it has more than {_LARGEST} bytes")
        return data


class KeyUrl:
    """A URL, by TLS unless it is on this machine.

    Args:
        url: of the JWK Set.
        token_file: a bearer token to send, as an API server wants it; read each time, because it changes.
        ca_file: certificates to trust instead of the system's.
        period: seconds between two looks at it.
    """

    def __init__(self, url: str, token_file: str = "", ca_file: str = "", period: float = 300.0) -> None:
        self.period = period
        self._url = url
        self._token_file = token_file
        self._ca_file = ca_file

    def __str__(self) -> str:
        return self._url

    async def read(self) -> bytes:
        """What is there.

        Raises:
            Retryable: it is not there, too slow, or too large.
        """
        return await self._get(self._url)

    async def _get(self, url: str) -> bytes:
        import httpx  # only here: most processes fetch no keys

        try:
            async with asyncio.timeout(_FETCH_TIMEOUT):
                # Both read files, and certificates take a while to load.
                context, headers = await asyncio.to_thread(self._prepared)
                async with (
                    httpx.AsyncClient(verify=context, timeout=_FETCH_TIMEOUT) as client,
                    client.stream("GET", url, headers=headers) as response,
                ):
                    return await _body(response)
        except TimeoutError:
            raise Retryable(f"it did not answer within {_FETCH_TIMEOUT:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Retryable(f"it cannot be fetched ({type(error).__name__})") from None
        except (OSError, ValueError) as error:
            raise Retryable(f"its token or certificates cannot be read: {error}") from None

    def _prepared(self) -> tuple[ssl.SSLContext, dict[str, str]]:
        import httpx

        context = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else httpx.create_ssl_context()
        # No compression, because a few bytes of it can hold any number.
        headers = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}
        if self._token_file:
            headers["Authorization"] = f"Bearer {Path(self._token_file).read_text(encoding='ascii').strip()}"
        return context, headers


class Discovery(KeyUrl):
    """An issuer's own word for where its keys are (OpenID Connect Discovery 1.0, section 4)."""

    def __init__(self, issuer: str, token_file: str = "", ca_file: str = "") -> None:
        super().__init__(f"{issuer.rstrip('/')}/.well-known/openid-configuration", token_file, ca_file)
        self._issuer = issuer

    async def read(self) -> bytes:
        """The JWK Set that the issuer's configuration names.

        Raises:
            Retryable: one of both is not there, or the configuration is another issuer's.
        """
        try:
            document: Any = orjson.loads(await self._get(self._url))
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise Retryable(f"it is not the OpenID configuration of {self._issuer}")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise Retryable("its jwks_uri is no https address")
        return await self._get(url)


class FetchedKeys:
    """The keys at an origin, as they were when it was last read.

    Args:
        issuer: whose they are, for messages.
        origin: where they are.
        algorithm: what they are for; all others are skipped.
        clock: seconds that only go forward.
    """

    def __init__(
        self, issuer: str, origin: Origin, algorithm: Algorithm, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.keys = _EMPTY
        self.problem = "they were not read yet"
        self._issuer = issuer
        self._origin = origin
        self._algorithm = algorithm
        self._clock = clock
        self._data = b""
        self._read_at = 0.0
        self._asked_at = -math.inf
        self._reading: asyncio.Task[None] | None = None

    def find(self, kid: str | None) -> Key | None:
        """The key of that name; without a name the only one, where there is just one."""
        self._expire()
        return self.keys.find(kid)

    async def ask(self) -> None:
        """Read the origin again, unless that was asked for in the last 30 s; wait for it where it is being read."""
        if self._reading is None:
            now = self._clock()
            if now - self._asked_at < ASK_AGAIN:
                return
            self._asked_at = now
        await self.read()

    async def read(self) -> None:
        """Read the origin. Who comes while it is being read waits for that; never raises."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name=f"keys of {self._issuer}")
        # One caller that goes away must not stop the others' reading.
        await asyncio.shield(self._reading)

    async def keep(self) -> None:
        """Read the origin now and then, until cancelled."""
        soon = _FIRST_AGAIN
        while True:
            await self.read()
            if not self.problem:
                await asyncio.sleep(self._origin.period)
            elif self.keys.keys:
                await asyncio.sleep(min(self._origin.period, ASK_AGAIN))
            else:
                # Nobody can call yet, and what is in the way of a process that has just begun seldom lasts: a network
                # policy that does not know the pod yet, an API server that is being replaced.
                await asyncio.sleep(min(self._origin.period, soon))
                soon = min(2 * soon, ASK_AGAIN)

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    async def _read(self) -> None:
        try:
            data = await self._origin.read()
            if data != self._data:
                # In a thread, because the first key loads what it is checked with. Another object, by which others know
                # that what they remember may no longer be true.
                self.keys = await asyncio.to_thread(read_key_set, data, self._algorithm)
                self._data = data
                self._tell()
            self._read_at = self._clock()
            self._report("")
        except ElfError as error:
            self._expire()
            self._report(str(error))
        except Exception:
            # Whoever reads now and then must go on doing so.
            log.exception("the keys of %s at %s could not be read", self._issuer, self._origin)
            self._expire()
            self._report("they could not be read; the log says why")
        finally:
            self._reading = None

    def _tell(self) -> None:
        level = logging.INFO if self.keys.keys else logging.WARNING
        about = (len(self.keys.keys), self._issuer, self._algorithm, self._origin, self.keys.skipped)
        log.log(level, "%d keys of %s for %s from %s; %d others are not for that", *about)

    def _expire(self) -> None:
        if self.keys is not _EMPTY and self._clock() - self._read_at > LAST_GOOD:
            self.keys = _EMPTY
            self._data = b""

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning(
                "the keys of %s at %s: %s; those that were read before serve for 24 hours",
                self._issuer,
                self._origin,
                problem,
            )
        self.problem = problem


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != 200:
        raise Retryable(f"it answered with HTTP {response.status_code}")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _LARGEST:
            raise Retryable(f"it has more than {_LARGEST} bytes")
    return bytes(body)
