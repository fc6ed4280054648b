"""Why a chat's socket is closed, or never opened: the codes of a team, and what its clients make of them.

Both sides are here, because a code means the same to each of them. What to do about it depends on who talks, and comes
from the client.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elf_sdk.errors import BadInput, ElfError, Failure, Forbidden, NotFound, Retryable, Unauthenticated

if TYPE_CHECKING:
    from websockets.exceptions import ConnectionClosed

__all__ = ["CLOSE_CODES", "Remedies", "connecting", "why_closed"]

CLOSE_CODES: Final = {
    "unauthenticated": 4401,
    "forbidden": 4403,
    "session_over": 4408,
    "limit": 4429,
    "restarting": 1012,
    "failed": 1011,
    "too_big": 1009,
    "done": 1000,
}
"""Why a chat's socket was closed."""

_BROKEN: Final = 1006
"""No code of the server's: the connection ended without one (RFC 6455, section 7.4.1)."""
_STOPPED: Final = frozenset({1001, _BROKEN, CLOSE_CODES["restarting"]})


@dataclass(frozen=True, slots=True)
class Remedies:
    """What a client can do, as the end of a sentence.

    Attributes:
        start: where nobody serves.
        token: where the token is not taken.
        again: where the team stops serving in the middle.
    """

    start: str
    token: str
    again: str


@contextmanager
def connecting(url: str, remedies: Remedies) -> Iterator[None]:
    """What goes wrong with a connection to the chat at `url`, as what the caller does about it.

    Raises:
        BadInput: the address is none.
        NotFound: what serves there has no such chat.
        ElfError: the socket was closed; as `why_closed` says.
        Retryable: nobody serves there.
    """
    from socket import gaierror
    from ssl import SSLError

    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

    try:
        yield
    except (gaierror, SSLError) as error:
        # Before ValueError, which a certificate that is not trusted is too; the numbers of both are not the system's.
        raise Retryable(f"nobody serves a chat at {url} ({error.strerror}); {remedies.start}") from None
    except (InvalidURI, ValueError):
        address = url.removesuffix("/chat")
        raise BadInput(f"{address!r} is no address of a team; write http://HOST:PORT/teams/TEAM") from None
    except InvalidStatus as error:
        raise NotFound(
            f"there is no chat at {url} (HTTP {error.response.status_code}); "
            "check the address and the team's name, and that its chat is enabled"
        ) from None
    except (OSError, InvalidHandshake) as error:
        # asyncio's own text of a refused connection repeats the address.
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else error
        raise Retryable(f"nobody serves a chat at {url} ({why}); {remedies.start}") from None
    except ConnectionClosed as closed:
        raise why_closed(closed, remedies) from None


def why_closed(closed: ConnectionClosed, remedies: Remedies) -> ElfError:
    """Why the team closed a chat's socket, or left it."""
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (_BROKEN, "the connection broke")
    if code == CLOSE_CODES["unauthenticated"]:
        return Unauthenticated(f"{reason}; {remedies.token}")
    if code == CLOSE_CODES["forbidden"]:
        return Forbidden(reason)
    if code in _STOPPED:
        return Retryable(f"the team stopped serving, or began anew after a change; {remedies.again}")
    return Failure(f"the chat was closed: {reason or code}")
