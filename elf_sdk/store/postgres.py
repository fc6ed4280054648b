"""The engine for PostgreSQL: a thread that writes, with group commit, one that reads, and a task that hears of others.

The driver is psycopg, used synchronously in the same two threads as SQLite's, so that everything above is the same
code; docs/topics/runs.md has the measurements. A replica holds three connections, two where it cannot listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from threading import Event
from typing import Any, Final, TypeVar

import orjson
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from typing_extensions import override

from elf_sdk.errors import BadInput, ElfError, Failure, Retryable
from elf_sdk.store.database import AddedRow, Connection, Cursor, EventRow, HeadRow, MovedRow, RunRow
from elf_sdk.store.schema import check, is_newer
from elf_sdk.store.worker import GATHER, Call, Lost, Session, WorkedStore, Worker, each, together

__all__ = ["Address", "PostgresStore"]

T = TypeVar("T")
ItemT = TypeVar("ItemT")
log = logging.getLogger("elf.store")

_PATIENCE: Final = 12.0
"""Seconds for which a change waits for a server that is away: longer than work goes on without a lease, so that what
could not be stored is stopped, and does not end as failed."""
_PATIENCE_UNKNOWN: Final = 60.0
"""The same for a change that may have been committed: no answer is better than a wrong one."""
_PAUSES: Final = (0.0, 0.1, 0.2, 0.5)
"""Seconds between tries to connect; the last one over and over."""
_PROBE: Final = 1.0
"""Seconds for a notification to arrive, or the connection is a pooler's, which loses them."""
_POLL: Final = 5.0
"""Seconds between looks at what others wait for, beside listening."""
_POLL_ONLY: Final = 0.2
"""The same where listening is not possible."""
_PAYLOAD: Final = 7900
"""Bytes in one notification; PostgreSQL takes 7999."""
_DEFAULTS: Final[Mapping[str, Any]] = {
    "application_name": "elf",
    "connect_timeout": 3,
    "tcp_user_timeout": 3000,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
}
_AWAY: Final = frozenset({"25006", "25P03", "57P01", "57P02", "57P03", "57P05"})
"""SQLSTATEs after which the connection is of no use: shut down, cut off, or not the primary any more."""
_LATER: Final = frozenset({"40001", "40P01", "53100", "53200", "53300", "55P03", "57014"})
"""SQLSTATEs that say: not now."""
_HOW: Final = (
    "SELECT current_schema(), current_setting('search_path'), current_setting('synchronous_commit'), "
    "current_setting('fsync'), current_setting('server_encoding'), current_setting('server_version_num')::int"
)
_OLDEST: Final = 130000
_BY_KEY: Final = ("enable_seqscan TO off", "enable_hashjoin TO off", "enable_mergejoin TO off")
"""What is written is found by its key. A plan from the time when a table was small would read all of it, for as long as
nobody has analysed it."""
_ADD_RUNS: Final = """
WITH new AS (
    SELECT * FROM ROWS FROM (json_to_recordset(%s) AS (id text, team text, owner_issuer text, owner_subject text,
        context_id text, text text, metadata text, digest text, conversation text, deadline bigint, begun text,
        protocol text, operation text, key text)) WITH ORDINALITY AS new (id, team, issuer, subject, context_id, text,
        metadata, digest, conversation, deadline, begun, protocol, operation, key, place)
), keys AS (
    INSERT INTO idempotency_keys
        (team, owner_issuer, owner_subject, protocol, operation, key, run_id, digest, created_at)
    SELECT team, issuer, subject, protocol, operation, key, id, digest, elf_now() FROM new WHERE key IS NOT NULL
    ORDER BY team, issuer, subject, protocol, operation, key, place
    ON CONFLICT DO NOTHING RETURNING run_id
), fresh AS (
    SELECT * FROM new WHERE id IN (SELECT run_id FROM keys)
        OR key IS NULL AND NOT EXISTS (SELECT FROM runs WHERE runs.id = new.id)
), asked AS (
    SELECT conversation, (array_agg(id ORDER BY place))[1] AS first, count(*) AS many FROM fresh GROUP BY conversation
), taken AS (
    INSERT INTO turns (conversation, run_id, waiting)
    SELECT conversation, first, many - 1 FROM asked ORDER BY conversation
    ON CONFLICT (conversation) DO UPDATE SET waiting = turns.waiting + excluded.waiting + 1
    RETURNING conversation, run_id, waiting
), added AS (
    INSERT INTO runs (id, team, owner_issuer, owner_subject, context_id, text, metadata, digest, conversation, deadline,
        state, head, holder, epoch, created_at, updated_at, changed_at)
    SELECT id, team, issuer, subject, context_id, text, metadata, digest, conversation, deadline,
        CASE WHEN run_id = id AND begun IS NOT NULL THEN 'working' ELSE 'queued' END,
        (run_id = id AND begun IS NOT NULL)::int,
        CASE WHEN run_id = id THEN %s::text END, (run_id = id)::int, now, now, now
    FROM fresh JOIN taken USING (conversation), (SELECT elf_now() AS now) AS clock ORDER BY place
    RETURNING id, conversation, created_at, epoch, head
), begun AS (
    INSERT INTO events (run_id, seq, epoch, kind, data, at)
    SELECT added.id, 1, 1, 'started', fresh.begun, created_at FROM added JOIN fresh USING (id) WHERE head = 1
)
SELECT id, created_at, epoch = 1, head = 1, waiting FROM added JOIN taken USING (conversation)
"""
# Not FOR UPDATE: a row that refers to a run is no reason to wait, or two such rows would make two transactions wait for
# each other.
_LOCK_RUNS: Final = (
    "SELECT id, head, state, holder, epoch, changed_at, elf_now() FROM runs WHERE id = ANY(%s) ORDER BY id "
    "FOR NO KEY UPDATE"
)
_ADD_EVENTS: Final = """
WITH added AS (
    INSERT INTO events (run_id, seq, epoch, kind, data, at)
    SELECT * FROM json_to_recordset(%s) AS new (run_id text, seq bigint, epoch bigint, kind text, data text, at bigint)
), moved AS (
    UPDATE runs SET head = to_be.head, state = to_be.state, holder = to_be.holder, epoch = to_be.epoch,
        changed_at = to_be.changed_at, updated_at = to_be.at
    FROM json_to_recordset(%s)
        AS to_be (id text, head bigint, state text, holder text, epoch bigint, changed_at bigint, at bigint)
    WHERE runs.id = to_be.id
), obeyed AS (
    DELETE FROM commands WHERE run_id = ANY(%s::text[])
), freed AS (
    DELETE FROM turns WHERE run_id = ANY(%s::text[]) AND waiting = 0 RETURNING run_id
)
SELECT (SELECT array_agg(run_id) FROM freed), pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload
"""


class Address:
    """Where a database is, and how to speak of it without its password.

    Args:
        url: `postgresql://…`, or any other libpq connection string.

    Raises:
        BadInput: it is none.
    """

    def __init__(self, url: str) -> None:
        try:
            self._parameters = {**_DEFAULTS, **conninfo_to_dict(url), "client_encoding": "UTF8"}
        except psycopg.ProgrammingError:
            # The driver's message would show the password.
            raise BadInput(
                "ELF_DATABASE_URL is no address of a PostgreSQL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            ) from None
        name = self._parameters.get("dbname") or self._parameters.get("user") or "the default database"
        self.name = f"{name} on {self._parameters.get('host') or 'the local socket'}"

    def connect(self, *, prepare: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection without implicit transactions.

        Raises:
            BadInput: the server refuses this user or database.
            Lost: there is no answer for now.
        """
        try:
            connection = psycopg.connect(**self._parameters, autocommit=True)
        except psycopg.OperationalError as error:
            raise self._refused(error) from error
        connection.prepare_threshold = 5 if prepare else None
        return connection

    async def listen(self, channel: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        """A connection that listens to `channel`.

        Raises:
            BadInput: the server refuses this user or database.
            Lost: there is no answer for now.
        """
        try:
            connection = await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
            try:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            except BaseException:
                await connection.close()
                raise
        except psycopg.OperationalError as error:
            raise self._refused(error) from error
        return connection

    def _refused(self, error: psycopg.OperationalError) -> Exception:
        # libpq gives no SQLSTATE of a connection that failed, only text, one line for each address it tried.
        reason = " ".join(str(error).split()).removeprefix("connection failed: ")
        if any(word in reason for word in ("authentication failed", "does not exist", "no pg_hba.conf entry")):
            return BadInput(f"{self.name} refuses the connection ({reason}); correct ELF_DATABASE_URL")
        return Lost(f"{self.name} cannot be reached ({reason}); look whether the server runs, and try again")


class PostgresStore(WorkedStore):
    """A schema in a PostgreSQL database: the first in the `search_path` of the user, or of the URL.

    Args:
        url: `postgresql://…`, or any other libpq connection string.
        listen: False looks for news instead, as behind a pooler that loses notifications; None finds out.

    Attributes:
        listens: whether news of other processes come by notification. Known once open.
    """

    shared = True

    def __init__(self, url: str, *, listen: bool | None = None) -> None:
        self.address = Address(url)
        super().__init__(self.address.name)
        self.listens = False
        self._listen = listen
        self._settings: Sequence[str] = ()
        self._channel = ""
        self._news: asyncio.Task[None] | None = None
        self._listener: psycopg.AsyncConnection[Any] | None = None
        self._closing = Event()
        self._writing: _Link
        self._reading: _Link
        self._failures = 0

    @override
    async def open(self) -> None:
        self._closing.clear()
        self._failures = 0
        self.listens = self._listen is not False
        try:
            schema = await asyncio.to_thread(self._inspect)
            # Channels belong to the database, not to the schema, and their names are as short as all others.
            self._channel = f"elf_{schema}".encode()[:63].decode(errors="ignore")
            if self.listens:
                self._listener = await self.address.listen(self._channel)
            if self._listen is None and not await self._hears():
                log.warning(
                    "%s loses notifications, as a pooler in transaction mode does; looking for news every %s s instead",
                    self.address.name,
                    _POLL_ONLY,
                )
                self.listens = False
                await self._stop_listening()
        except (Lost, psycopg.Error) as error:
            await self._stop_listening()
            raise _not_open(error, self.address.name) from error
        pooled = not self.listens
        read_only = "transaction_read_only TO on" if pooled else "default_transaction_read_only TO on"
        self._writing = _Link(self.address, [*self._settings, *_BY_KEY], self._channel, pooled=pooled)
        self._reading = _Link(self.address, [*self._settings, read_only], self._channel, pooled=pooled)
        self._writer = Worker("store writer", self._write, self._writing.close, gather=GATHER)
        self._reader = Worker("store reader", self._read, self._reading.close)
        self._news = asyncio.create_task(self._follow())

    def _inspect(self) -> str:
        """The schema, which is this release's, in a database that keeps what it acknowledges."""
        with contextlib.closing(self.address.connect()) as connection:
            found = connection.execute(_HOW).fetchone()
            assert found is not None  # noqa: S101 - one row by construction
            schema, path, synchronous, fsync, encoding, version = found
            name = self.address.name
            if version < _OLDEST:
                raise BadInput(f"{name} is PostgreSQL {version // 10000}; ELF needs {_OLDEST // 10000} or later")
            if encoding != "UTF8":
                raise BadInput(f"{name} keeps text as {encoding}; make a database with the encoding UTF8")
            if schema is None:
                raise BadInput(f"{name} has no schema of its search_path ({path}); run `elf db migrate`, or create one")
            if synchronous not in ("on", "remote_apply"):
                raise Failure(
                    f"{name} acknowledges what it may lose: synchronous_commit is {synchronous}; "
                    "set it to on for this user (ALTER ROLE … SET synchronous_commit = on)"
                )
            if fsync != "on":
                log.warning("%s runs with fsync=off: it may lose everything when its machine stops", name)
            identifier = sql.Identifier(schema).as_string()
            revision = None
            if connection.execute("SELECT to_regclass(%s)", [f"{identifier}.alembic_version"]).fetchone() != (None,):
                table = sql.SQL("SELECT version_num FROM {}.alembic_version").format(sql.Identifier(schema))
                row = connection.execute(table).fetchone()
                revision = None if row is None else str(row[0])
            oldest = None
            facts = f"{identifier}.facts"
            if (
                revision is not None
                and is_newer(revision)
                and connection.execute("SELECT to_regclass(%s)", [facts]).fetchone() != (None,)
            ):
                table = sql.SQL("SELECT value FROM {}.facts WHERE name = 'min_compatible'").format(
                    sql.Identifier(schema)
                )
                row = connection.execute(table).fetchone()
                oldest = None if row is None else str(row[0])
            check(revision, f"{name}, schema {schema},", oldest)
        self._settings = (
            f"search_path TO {identifier}",
            "lock_timeout TO '2s'",
            "idle_in_transaction_session_timeout TO '3s'",
            # Compiling what takes a millisecond takes a hundred.
            "jit TO off",
            # So that the server, too, notices soon that a client has gone, and gives up its locks.
            "tcp_user_timeout TO 3000",
            "tcp_keepalives_idle TO 2",
            "tcp_keepalives_interval TO 1",
            "tcp_keepalives_count TO 3",
        )
        return str(schema)

    async def _hears(self) -> bool:
        """Whether a notification that another connection sends arrives."""
        if self._listener is None:
            return False
        word = secrets.token_hex(8)

        def send() -> None:
            with contextlib.closing(self.address.connect()) as connection:
                connection.execute("SELECT pg_notify(%s, %s)", [self._channel, f"probe {word}"])

        await asyncio.to_thread(send)
        until = time.monotonic() + _PROBE
        while (left := until - time.monotonic()) > 0:
            async for notification in self._listener.notifies(timeout=left, stop_after=1):
                if notification.payload == f"probe {word}":
                    return True
        return False

    @override
    async def close(self) -> None:
        if self._news is not None:
            self._news.cancel()
            await asyncio.wait({self._news})
            self._news = None
        await self._stop_listening()
        self._closing.set()
        workers = [worker for worker in (self._reader, self._writer) if worker is not None]
        self._reader = self._writer = None
        for worker in workers:
            await asyncio.to_thread(worker.stop)

    @property
    @override
    def connected_since(self) -> float | None:
        return self._writing.connected_since

    def _write(self, calls: Sequence[Call]) -> list[Call]:
        try:
            together(self._writing.session(), calls)
        except (Lost, ElfError) as error:
            # Whoever has waited long enough hears of it; the others are tried again, together with what comes.
            left = [call for call in calls if not call.decided]
            for call in left:
                self._give_up(call, error)
            if isinstance(error, Lost):
                self._writing.close()
            self._closing.wait(_PAUSES[min(self._failures, len(_PAUSES) - 1)])
            self._failures += 1
            return [call for call in left if not call.decided]
        self._failures = 0
        return []

    def _give_up(self, call: Call, error: Exception) -> None:
        patience = _PATIENCE_UNKNOWN if call.unknown else _PATIENCE
        if time.monotonic() - call.queued_at < patience and not (self._closing.is_set() and self._failures):
            return
        doubt = "; whether this was stored is not known" if call.unknown else ""
        call.fail(Retryable(f"{error}{doubt}"))

    def _read(self, calls: Sequence[Call]) -> list[Call]:
        problem: Exception = Lost()
        for _ in range(2):
            try:
                each(self._reading.session(), calls)
            except (Lost, ElfError) as error:
                self._reading.close()
                problem = error
            else:
                return []
        for call in calls:
            if not call.decided:
                call.fail(Retryable(str(problem)))
        return []

    async def _follow(self) -> None:
        """Tell the waiters what other processes stored."""
        heads: dict[str, int] = {}
        while True:
            try:
                if self.listens and self._listener is None:
                    self._listener = await self.address.listen(self._channel)
                    # What came while nobody listened.
                    self.waiters.notify(self.waiters.keys)
                if self._listener is None:
                    await asyncio.sleep(_POLL_ONLY)
                else:
                    async for notification in self._listener.notifies(timeout=_POLL):
                        # Of what this process stored they are told by who stored it.
                        if notification.pid != self._writing.process:
                            self.waiters.notify(notification.payload.split(","))
                heads = await self._changed(heads)
            except (Lost, ElfError, psycopg.Error) as error:
                log.info("no news from %s: %s", self.address.name, error)
                await self._stop_listening()
                await asyncio.sleep(_PAUSES[-1])

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def _changed(self, before: Mapping[str, int]) -> dict[str, int]:
        """Notify of runs that are not where they were; the first look at a run counts as news."""
        wanted = self.waiters.keys
        if not wanted:
            return {}
        heads = await self.read(lambda connection: _heads(connection, wanted))
        self.waiters.notify(run_id for run_id, head in heads.items() if before.get(run_id) != head)
        return heads


def _heads(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    return dict(connection.execute("SELECT id, head FROM runs WHERE id = ANY(?)", [list(ids)]).fetchall())


def _not_open(error: Exception, name: str) -> ElfError:
    """Why a database cannot be opened."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return BadInput(f"{name} does not let this user read its schema ({error}); grant it, or use another user")
    reason = " ".join(str(error).split())
    return Retryable(reason if isinstance(error, Lost) else f"{name} went away ({reason}); try again")


class _Link:
    """A worker's session, which is made again when it was lost. Belongs to the worker's thread.

    Args:
        address: of the database.
        settings: what a session, or where that means nothing a transaction, begins with.
        channel: for notifications.
        pooled: whether each transaction may be on another server connection, so that nothing of a session is kept.

    Attributes:
        connected_since: monotonic seconds; None while there is no session.
        process: the server's process at the other end, by its number.
    """

    def __init__(self, address: Address, settings: Sequence[str], channel: str, *, pooled: bool) -> None:
        self._address = address
        self._settings = settings
        self._channel = channel
        self._pooled = pooled
        self._session: _Session | None = None
        self.connected_since: float | None = None
        self.process = 0

    def session(self) -> _Session:
        """The session, connected.

        Raises:
            BadInput: the server refuses this user or database.
            Lost: there is no answer for now.
        """
        if self._session is None:
            raw = self._address.connect(prepare=not self._pooled)
            try:
                if not self._pooled:
                    raw.execute(self._all("SESSION"))
            except psycopg.Error as error:
                raw.close()
                raise Lost(f"{self._address.name} went away: {error}") from error
            begin = b"BEGIN; " + self._all("LOCAL") if self._pooled else b"BEGIN"
            self._session = _Session(raw, self._address.name, begin, self._channel, pooled=self._pooled)
            self.connected_since = time.monotonic()
            self.process = raw.info.backend_pid
        return self._session

    def _all(self, scope: str) -> bytes:
        return "; ".join(f"SET {scope} {setting}" for setting in self._settings).encode()

    def close(self) -> None:
        """Disconnect."""
        self.connected_since = None
        if self._session is not None:
            self._session.close()
            self._session = None


class _Session(Session):
    skip_locked = "FOR NO KEY UPDATE SKIP LOCKED"

    def __init__(
        self, raw: psycopg.Connection[tuple[Any, ...]], name: str, begin: bytes, channel: str, *, pooled: bool
    ) -> None:
        self._raw = raw
        self._name = name
        self._begin = begin
        self._channel = channel
        self._pooled = pooled
        self._was_locked = False
        self._skips_locked = False
        self.close = raw.close

    @override
    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        return self._raw.execute(_translated(statement), values)

    @contextlib.contextmanager
    @override
    def reading(self) -> Iterator[None]:
        if not self._pooled:
            yield
            return
        self.begin()
        try:
            yield
        finally:
            self.rollback()

    @override
    def add_runs(self, rows: Sequence[RunRow], holder: str | None) -> dict[str, AddedRow]:
        added = self._raw.execute(_ADD_RUNS, [_json(rows), holder])
        return {run_id: AddedRow(*about) for run_id, *about in added.fetchall()}

    @override
    def lock_runs(self, ids: Collection[str]) -> dict[str, HeadRow | None]:
        statement = f"{_LOCK_RUNS} SKIP LOCKED" if self._skips_locked else _LOCK_RUNS
        locked: dict[str, HeadRow | None] = {
            row[0]: HeadRow(*row) for row in self._raw.execute(statement, [list(ids)]).fetchall()
        }
        if self._skips_locked and (missing := [run_id for run_id in ids if run_id not in locked]):
            there = self._raw.execute("SELECT id FROM runs WHERE id = ANY(%s)", [missing]).fetchall()
            locked.update({run_id: None for (run_id,) in there})
        return locked

    @override
    def add_events(self, events: Sequence[EventRow], moved: Sequence[MovedRow], free: Sequence[str]) -> set[str]:
        payloads = list(_payloads(row.id for row in moved))
        ended = list(free)
        values = [_json(events), _json(moved), ended, ended, self._channel, payloads]
        row = self._raw.execute(_ADD_EVENTS, values).fetchone()
        assert row is not None  # noqa: S101 - there is a payload for what was moved
        return set(free).difference(row[0] or ())

    @override
    def notify(self, keys: Sequence[str]) -> None:
        payloads = list(_payloads(keys))
        self._raw.execute("SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", [self._channel, payloads])

    @override
    def begin(self) -> None:
        self._order(self._begin)

    @override
    def commit(self) -> None:
        done = self._order(b"COMMIT")
        if done != b"COMMIT":
            raise Failure(f"{self._name} answered {done.decode()} to COMMIT")
        self._skips_locked = False

    @override
    def rollback(self) -> None:
        # A connection that cannot even do this is lost, and the next statement finds out.
        with contextlib.suppress(psycopg.Error):
            self._order(b"ROLLBACK")

    def _order(self, command: bytes) -> bytes:
        """Run a command without values by libpq itself, in half the driver's time; what the server calls it."""
        result = self._raw.pgconn.exec_(command)
        if result.status == psycopg.pq.ExecStatus.COMMAND_OK:
            return result.command_status or b""
        error = psycopg.errors.error_from_result(result, encoding="utf-8")
        if not result.error_field(psycopg.pq.DiagnosticField.SQLSTATE):
            # Not the server's word, but libpq's of the connection, which it need not know to be closed yet.
            reason = " ".join(str(error).split())
            raise Lost(f"{self._name} went away ({reason}); try again")
        raise error

    @override
    def can_do_better(self) -> bool:
        # One run that another holds for long must not stop all others, each time for as long as one waits.
        better = self._was_locked and not self._skips_locked
        self._skips_locked = self._was_locked
        self._was_locked = False
        return better

    @property
    @override
    def in_transaction(self) -> bool:
        return self._raw.info.transaction_status in (
            psycopg.pq.TransactionStatus.INTRANS,
            psycopg.pq.TransactionStatus.INERROR,
        )

    @override
    def explain(self, error: Exception) -> Exception:
        if not isinstance(error, psycopg.Error):
            return error
        reason = " ".join(str(error).split())
        self._was_locked = error.sqlstate == "55P03"
        if self._raw.closed or error.sqlstate in _AWAY:
            return Lost(f"{self._name} went away ({reason}); try again")
        match error.sqlstate:
            case "53100":
                return Retryable(f"{self._name} could not be written, because its disk is full; free some space")
            case state if state in _LATER:
                return Retryable(f"{self._name} is busy ({reason}); try again")
            case "42501":
                return BadInput(f"{self._name} does not let this user do that ({reason}); grant it")
            case "42P01" | "42703" | "42883":
                return Failure(f"{self._name} has another schema than this release ({reason}); run `elf db migrate`")
        return Failure(f"{self._name}: {reason}")


def _json(rows: Sequence[RunRow] | Sequence[EventRow] | Sequence[MovedRow]) -> str:
    """The rows as one value for `json_to_recordset`: the driver takes longer for a list of texts than for all else."""
    return orjson.dumps([row._asdict() for row in rows]).decode()


def _payloads(ids: Iterable[str]) -> Iterator[str]:
    """The ids, as many in one notification as fit."""
    held: list[str] = []
    size = 0
    for run_id in ids:
        length = len(run_id.encode()) + 1
        if held and size + length > _PAYLOAD:
            yield ",".join(held)
            held, size = [], 0
        held.append(run_id)
        size += length
    if held:
        yield ",".join(held)


@lru_cache(maxsize=256)
def _translated(statement: str) -> str:
    """The driver's placeholder is `%s`; no statement of ours has a question mark or a percent sign in it otherwise."""
    return statement.replace("?", "%s")
