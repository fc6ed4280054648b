"""Where news of runs are to be sent, and how far each receiver is. The run's log is the queue; a row is a cursor in it.

A replica that delivers a row claims it for a while, by the database's clock. Whoever lost a claim can move nothing
any more, and after a claim has run out another replica goes on from the last event that is known to have arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from elf_sdk.errors import BadInput
from elf_sdk.store.database import Connection, Store, moment

__all__ = ["NOTHING", "PushConfig", "PushConfigs"]

NOTHING: Final = -1
"""The cursor of a receiver that knows nothing yet, not even that there is a run."""


_UNSET: Final = moment(0)


@dataclass(frozen=True, slots=True)
class PushConfig:
    """A receiver of a run's news, as its row says.

    Attributes:
        run_id: whose news.
        config_id: unique in the run.
        team: whose run it is.
        url: where they are sent.
        host: of the URL.
        token: the receiver's own, sent with each; empty for none.
        scheme: of the Authorization header; empty for none.
        credentials: of the Authorization header; empty for none.
        sent_seq: number of the last event that was delivered, or `NOTHING`.
        attempts: failed ones in a row.
        claimed_until: until when somebody delivers it, by the database's clock in milliseconds; tells claims apart.
        ended: None as long as something is to be delivered; else why not, empty where all was delivered.
        created_at: set by the store.
    """

    run_id: str
    config_id: str
    team: str
    url: str
    host: str
    token: str = field(default="", repr=False)
    scheme: str = ""
    credentials: str = field(default="", repr=False)
    sent_seq: int = NOTHING
    attempts: int = 0
    claimed_until: int = 0
    ended: str | None = None
    created_at: datetime = _UNSET


_FIELDS: Final = tuple(field.name for field in fields(PushConfig))
_COLUMNS: Final = ", ".join(_FIELDS)
_ONE: Final = f"SELECT {_COLUMNS} FROM push_configs WHERE run_id = ? AND config_id = ?"  # noqa: S608 - constants only
_OF_RUN: Final = f"SELECT {_COLUMNS} FROM push_configs WHERE run_id = ? ORDER BY created_at, config_id"  # noqa: S608 - constants only
_PUT: Final = """
INSERT INTO push_configs
    (run_id, config_id, team, url, host, token, scheme, credentials, sent_seq, next_attempt_at, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, elf_now(), elf_now())
ON CONFLICT (run_id, config_id) DO UPDATE SET
    url = excluded.url, host = excluded.host, token = excluded.token, scheme = excluded.scheme,
    credentials = excluded.credentials, attempts = 0, next_attempt_at = excluded.next_attempt_at,
    sent_seq = CASE WHEN push_configs.url = excluded.url AND push_configs.ended IS NULL
        THEN push_configs.sent_seq ELSE excluded.sent_seq END,
    claimed_until = CASE WHEN push_configs.url = excluded.url THEN push_configs.claimed_until ELSE 0 END,
    ended = NULL
"""
_IS_DUE: Final = "team = ? AND ended IS NULL AND next_attempt_at <= elf_now() AND claimed_until <= elf_now()"
_DUE: Final = """
SELECT run_id, config_id, host FROM (
    SELECT run_id, config_id, host, next_attempt_at,
        ROW_NUMBER() OVER (PARTITION BY host ORDER BY next_attempt_at, run_id, config_id) AS place
    FROM push_configs WHERE {due} AND sent_seq < (SELECT head FROM runs WHERE id = run_id){runs}
) AS due WHERE place <= ? ORDER BY next_attempt_at LIMIT ?
"""
_CLAIM: Final = "UPDATE push_configs SET claimed_until = elf_now() + ? WHERE run_id = ? AND config_id = ?"
_MINE: Final = "WHERE run_id = ? AND config_id = ? AND claimed_until = ? RETURNING 1"

Key = tuple[str, str]
"""Run and config."""


class PushConfigs:
    """The receivers of runs' news in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, config: PushConfig, most: int) -> PushConfig:
        """Store a receiver, in the place of one with its id.

        While that is being delivered to the same URL, what was delivered stays delivered. Otherwise all begins anew.

        Args:
            config: new, or with what is new in it.
            most: how many a run may have.

        Raises:
            BadInput: the run has as many already.
        """

        def change(connection: Connection) -> PushConfig:
            ids = [found.config_id for found in _many(connection, _OF_RUN, (config.run_id,))]
            if len(ids) >= most and config.config_id not in ids:
                raise BadInput(f"the task {config.run_id!r} has {most} push notification configs; delete one first")
            connection.execute(
                _PUT,
                (
                    config.run_id,
                    config.config_id,
                    config.team,
                    config.url,
                    config.host,
                    config.token,
                    config.scheme,
                    config.credentials,
                    config.sent_seq,
                ),
            )
            (stored,) = _many(connection, _ONE, (config.run_id, config.config_id))
            return stored

        return await self._store.write(change)

    async def get(self, run_id: str, config_id: str) -> PushConfig | None:
        """One receiver, whoever owns the run."""
        found = await self._store.read(lambda connection: _many(connection, _ONE, (run_id, config_id)))
        return found[0] if found else None

    async def of_run(self, run_id: str) -> tuple[PushConfig, ...]:
        """A run's receivers, oldest first, also those to which nothing more is sent."""
        return await self._store.read(lambda connection: _many(connection, _OF_RUN, (run_id,)))

    async def remove(self, run_id: str, config_id: str) -> None:
        """Forget a receiver, or do nothing where there is none. Who delivers to it now loses the claim."""
        statement = "DELETE FROM push_configs WHERE run_id = ? AND config_id = ?"
        await self._store.write(lambda connection: connection.execute(statement, (run_id, config_id)))

    async def due(
        self, team: str, room: int, busy: Mapping[str, int], each: int, runs: Collection[str] | None = None
    ) -> tuple[tuple[Key, ...], bool]:
        """Whom something is to be sent to now, those that wait longest first; and whether there were others.

        Args:
            team: whose.
            room: at most so many.
            busy: how many are at work by host.
            each: at most so many of one host, with those at work.
            runs: look at these only; None for all.
        """
        among = "" if runs is None else f" AND run_id IN ({', '.join('?' * len(runs))})"
        statement = _DUE.format(due=_IS_DUE, runs=among)
        # One more than can be taken of a host, and of all, so that others are seen.
        values = (team, *(runs or ()), each + 1, room + 1 + (each + 1) * len(busy))

        def query(connection: Connection) -> tuple[tuple[Key, ...], bool]:
            taken = Counter(busy)
            keys: list[Key] = []
            found = connection.execute(statement, values).fetchall()
            for run_id, config_id, host in found:
                if taken[host] < each and len(keys) < room:
                    taken[host] += 1
                    keys.append((run_id, config_id))
            return tuple(keys), len(found) > len(keys)

        return await self._store.read(query)

    async def claim(self, team: str, keys: Sequence[Key], lease: int) -> tuple[PushConfig, ...]:
        """Take those of `keys` that nobody else has taken meanwhile, for `lease` milliseconds."""
        pairs = " OR ".join(["(run_id = ? AND config_id = ?)"] * len(keys))
        statement = f"SELECT run_id, config_id FROM push_configs WHERE {_IS_DUE} AND ({pairs})"  # noqa: S608 - values are bound

        def change(connection: Connection) -> tuple[PushConfig, ...]:
            locking = f"{statement} {connection.skip_locked}"
            free = connection.execute(locking, (team, *(part for key in keys for part in key))).fetchall()
            claimed: list[PushConfig] = []
            for key in free:
                connection.execute(_CLAIM, (lease, *key))
                claimed += _many(connection, _ONE, tuple(key))
            return tuple(claimed)

        # What was claimed by a commit whose answer got lost is nobody's until the claim runs out.
        return await self._store.write(change) if keys else ()

    async def moved(self, config: PushConfig, seq: int) -> bool:
        """The event `seq` was delivered. False, and nothing is changed, where the claim is lost or the row is gone."""
        return await self._settle(config, "sent_seq = ?, attempts = 0", (seq,))

    async def released(self, config: PushConfig) -> bool:
        """Give the claim back; who waits longer goes first. False as in `moved`."""
        return await self._settle(config, "claimed_until = 0, next_attempt_at = elf_now()")

    async def failed(self, config: PushConfig, attempts: int, delay: int) -> bool:
        """Give the claim back after a failed attempt; try again in `delay` milliseconds. False as in `moved`."""
        change = "claimed_until = 0, attempts = ?, next_attempt_at = elf_now() + ?"
        return await self._settle(config, change, (attempts, delay))

    async def end(self, config: PushConfig, why: str = "", seq: int | None = None) -> bool:
        """Nothing more is sent: because of `why`, or because `seq` was the last event. False as in `moved`."""
        change = "claimed_until = 0, ended = ?, sent_seq = COALESCE(?, sent_seq)"
        return await self._settle(config, change, (why, seq))

    async def _settle(self, config: PushConfig, change: str, values: tuple[Any, ...] = ()) -> bool:
        statement = f"UPDATE push_configs SET {change} {_MINE}"  # noqa: S608 - constants only
        mine = (config.run_id, config.config_id, config.claimed_until)
        return await self._store.write(
            lambda connection: connection.execute(statement, (*values, *mine)).fetchone() is not None
        )


def _many(connection: Connection, statement: str, values: tuple[Any, ...]) -> tuple[PushConfig, ...]:
    return tuple(_config(row) for row in connection.execute(statement, values))


def _config(row: tuple[Any, ...]) -> PushConfig:
    values = dict(zip(_FIELDS, row, strict=True))
    values["created_at"] = moment(values["created_at"])
    return PushConfig(**values)
