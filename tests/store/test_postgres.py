"""What only PostgreSQL has: other processes, a server that goes away, and a schema that others own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from elf_sdk.errors import BadInput, ElfError, Failure, NotFound, Retryable
from elf_sdk.runs.durable import DurableLog
from elf_sdk.runs.events import Finished, TextDelta
from elf_sdk.runs.log import IdempotencyKey, Stale
from elf_sdk.store.database import Connection
from elf_sdk.store.migrate import migrate
from elf_sdk.store.postgres import PostgresStore
from elf_sdk.store.schema import REVISION
from tests.postgres import Server
from tests.proxy import proxied
from tests.runs.support import ask


async def refused(url: str) -> str:
    with pytest.raises(ElfError) as caught:
        await PostgresStore(url).open()
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


def test_migrating_twice_changes_nothing_and_says_so(postgres: Server) -> None:
    url = postgres.url(postgres.database("template0"))
    assert migrate(url)[1] is None
    assert migrate(url)[1] == REVISION


async def test_a_team_has_its_own_schema(postgres: Server) -> None:
    name = postgres.database("template0")
    stores = []
    for team in ("brand", "market"):
        url = postgres.url(name, options=f"-csearch_path%3D{team}")
        assert "no schema of its search_path" in await refused(url)
        assert migrate(url) == (f"{name} on {postgres.socket.parent}, schema {team}", None)
        stores.append(PostgresStore(url))
    logs: list[DurableLog] = []
    for store in stores:
        await store.open()
        logs.append(DurableLog(store))
        await logs[-1].create("r1", ask(context=store.address.name), None)
    found = postgres.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'runs' ORDER BY 1", name)
    assert found == [("brand",), ("market",)]
    # A notification for one team is none of the other's.
    with stores[1].waiters.register("r1") as news:
        await logs[0].append("r1", [TextDelta("x")])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await news.wait()
    for store in stores:
        await store.close()


async def test_a_schema_of_another_release_is_refused(postgres: Server) -> None:
    name = postgres.database("template0")
    assert "no tables of ELF yet; run `elf db migrate`" in await refused(postgres.url(name))
    migrate(postgres.url(name))
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name)
    postgres.execute("UPDATE facts SET value = '9999' WHERE name = 'min_compatible'", name)
    assert "newer release (revision 9999" in await refused(postgres.url(name))
    with pytest.raises(Failure, match="newer release"):
        migrate(postgres.url(name))


async def test_a_newer_schema_that_allows_this_release_is_used(postgres: Server) -> None:
    name = postgres.database()
    url = postgres.url(name)
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name)
    for oldest in ("0001", REVISION):
        postgres.execute(f"UPDATE facts SET value = '{oldest}' WHERE name = 'min_compatible'", name)  # noqa: S608 - constants
        assert migrate(url)[1] == "9999"
        store = PostgresStore(url)
        await store.open()
        await DurableLog(store).create(f"r{oldest}", ask(oldest, context=oldest), None)
        await store.close()
    assert postgres.execute("SELECT version_num FROM alembic_version", name) == [("9999",)]
    for change in (
        "UPDATE facts SET value = '9998' WHERE name = 'min_compatible'",
        "DELETE FROM facts WHERE name = 'min_compatible'",
        "DROP TABLE facts",
    ):
        postgres.execute(change, name)
        assert "newer release (revision 9999" in await refused(url)
        with pytest.raises(Failure, match="newer release"):
            migrate(url)


async def test_what_cannot_be_used_is_refused_in_one_sentence(postgres: Server, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no address of a PostgreSQL"):
        PostgresStore("postgres+asyncpg://ada:secret@db/elf")
    assert "does not exist" in await refused(postgres.url("nowhere"))
    assert "cannot be reached" in await refused(f"postgresql://ada:secret@/elf?host={tmp_path}")
    name = postgres.database()
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert "acknowledges what it may lose" in await refused(postgres.url(name))


async def test_two_migrations_at_once_make_one_schema(postgres: Server) -> None:
    url = postgres.url(postgres.database("template0"))
    outcomes = await asyncio.gather(*(asyncio.to_thread(migrate, url) for _ in range(4)))
    assert sorted(str(before) for _, before in outcomes) == [REVISION, REVISION, REVISION, "None"]


@pytest.mark.parametrize("listen", [True, False])
async def test_news_of_another_process_arrive(database: str, listen: bool) -> None:
    here, there = PostgresStore(database, listen=None if listen else False), PostgresStore(database)
    await here.open()
    await there.open()
    assert here.listens is listen
    log = DurableLog(there)
    await log.create("r1", ask(), None)
    with here.waiters.register("r1") as news:
        await asyncio.sleep(0.5)
        for number in range(5):
            news.clear()
            await log.append("r1", [TextDelta(str(number))])
            async with asyncio.timeout(2):
                await news.wait()
            assert len(await DurableLog(here).read("r1")) == number + 1
    await here.close()
    await there.close()


async def test_many_runs_in_one_flush_are_all_told_of(database: str) -> None:
    here, there = PostgresStore(database), PostgresStore(database)
    await here.open()
    await there.open()
    log = DurableLog(there)
    ids = [f"{number:064}" for number in range(250)]
    await asyncio.gather(*(log.create(run_id, ask(context=run_id), None) for run_id in ids))
    heard: list[str] = []

    async def wait(run_id: str) -> None:
        with here.waiters.register(run_id) as news:
            await news.wait()
            heard.append(run_id)

    async with asyncio.timeout(4):
        waits = [asyncio.create_task(wait(run_id)) for run_id in ids]
        await asyncio.sleep(0.1)
        await asyncio.gather(*(log.append(run_id, [TextDelta("x")]) for run_id in ids))
        await asyncio.gather(*waits)
    assert sorted(heard) == ids
    await here.close()
    await there.close()


async def test_two_processes_make_one_run_of_a_key_and_number_theirs_without_a_gap(database: str) -> None:
    stores = [PostgresStore(database) for _ in range(2)]
    for store in stores:
        await store.open()
    logs = [DurableLog(store) for store in stores]
    key = IdempotencyKey("a2a", "message/send", "m1")
    made = await asyncio.gather(*(logs[n % 2].create(f"r{n}", ask(), key) for n in range(60)))
    assert sum(created for _, created in made) == 1
    (run_id,) = {run.id for run, _ in made}
    assert [run.held for run, created in made if created] == [True]
    for number in range(20):
        await logs[number % 2].create(f"s{number}", ask(context=f"s{number}"), None)
    outcomes = await asyncio.gather(
        *(logs[n % 2].append(run_id, [TextDelta(str(n))]) for n in range(200)),
        *(logs[n % 2].append(f"s{n % 20}", [TextDelta(str(n))]) for n in range(200)),
        return_exceptions=True,
    )
    # Who does not hold a run writes nothing of it.
    assert sum(isinstance(outcome, Stale) for outcome in outcomes) == 100
    for log in logs:
        assert [logged.seq for logged in await log.read(run_id)] == list(range(1, 101))
        assert [logged.seq for logged in await log.read("s7")] == list(range(1, 11))
    for store in stores:
        await store.close()


async def test_an_event_that_the_database_refuses_leaves_the_others_of_its_batch(
    database: str, postgres: Server
) -> None:
    postgres.execute("ALTER TABLE events ADD CHECK (data NOT LIKE '%poison%')", database.split("/")[3].split("?")[0])
    store = PostgresStore(database)
    await store.open()
    log = DurableLog(store)
    await asyncio.gather(*(log.create(f"r{number}", ask(context=f"c{number}"), None) for number in range(100)))
    outcomes = await asyncio.gather(
        *(log.append(f"r{n}", [TextDelta("poison" if n == 42 else "x")]) for n in range(100)), return_exceptions=True
    )
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [42]
    assert isinstance(outcomes[42], Failure)
    assert await store.read(lambda connection: connection.execute("SELECT COUNT(*) FROM events").fetchone()) == (99,)
    await store.close()


async def test_a_locked_run_holds_up_itself_alone(database: str) -> None:
    store = PostgresStore(database)
    await store.open()
    log = DurableLog(store)
    for number in range(50):
        await log.create(f"r{number}", ask(context=f"c{number}"), None)
    with psycopg.connect(database) as other:
        other.execute("SELECT * FROM runs WHERE id = 'r2' FOR UPDATE")
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(
                *(log.append(f"r{number}", [TextDelta("x")]) for number in range(51)), return_exceptions=True
            )
        failed = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)}
        assert failed.keys() == {2, 50}
        assert isinstance(failed[2], Retryable)
        assert isinstance(failed[50], NotFound)
        other.rollback()
    await log.append("r2", [TextDelta("x")])
    await store.close()


async def test_a_restart_of_the_server_loses_and_doubles_nothing(own_postgres: Server) -> None:
    url = own_postgres.url(own_postgres.database())
    store, other = PostgresStore(url), PostgresStore(url)
    await store.open()
    await other.open()
    log = DurableLog(store)
    going = True
    acknowledged: dict[str, list[str]] = {f"r{number}": [] for number in range(8)}

    async def write(run_id: str) -> None:
        await log.create(run_id, ask(context=run_id), None)
        number = 0
        while going:
            await log.append(run_id, [TextDelta(f"{run_id} {number}")])
            acknowledged[run_id].append(f"{run_id} {number}")
            number += 1
            await asyncio.sleep(0)

    writers = [asyncio.create_task(write(run_id)) for run_id in acknowledged]
    for how in (signal.SIGQUIT, signal.SIGINT):
        await asyncio.sleep(0.7)
        await asyncio.to_thread(own_postgres.stop, how)
        with pytest.raises(Retryable):
            await log.get("elsewhere")
        before = sum(map(len, acknowledged.values()))
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(5):
            while sum(map(len, acknowledged.values())) < before + 100:  # noqa: ASYNC110 - any of the writers
                await asyncio.sleep(0.05)
    going = False
    await asyncio.gather(*writers)
    for run_id, texts in acknowledged.items():
        stored: list[str] = []
        while page := await log.read(run_id, len(stored), 1000):
            stored += [logged.event.text for logged in page if isinstance(logged.event, TextDelta)]
        assert stored == texts
    # Who listened before hears again.
    with other.waiters.register("r0") as news:
        await log.append("r0", [Finished()])
        async with asyncio.timeout(6):
            await news.wait()
    await store.close()
    await other.close()


async def test_a_server_that_stays_away_is_said(own_postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elf_sdk.store.postgres._PATIENCE", 0.5)
    store = PostgresStore(own_postgres.url(own_postgres.database()))
    await store.open()
    log = DurableLog(store)
    await log.create("r1", ask(), None)
    await asyncio.to_thread(own_postgres.stop)
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(
            *(log.append("r1", [TextDelta("x")]) for _ in range(20)), return_exceptions=True
        )
    assert all(isinstance(outcome, Retryable) and "cannot be reached" in str(outcome) for outcome in outcomes)
    await asyncio.to_thread(own_postgres.start)
    async with asyncio.timeout(5):
        (logged,) = await log.append("r1", [TextDelta("again")])
    assert logged.seq == 1
    await store.close()


async def test_a_lost_answer_to_a_commit_neither_loses_nor_doubles(postgres: Server, tmp_path: Path) -> None:
    name = postgres.database()
    with proxied(tmp_path, postgres) as proxy:
        store = PostgresStore(f"postgresql://elf@/{name}?host={tmp_path}")
        await store.open()
        log = DurableLog(store)
        key = IdempotencyKey("a2a", "message/send", "m1")

        proxy.cuts += 1
        made = await asyncio.gather(log.create("r0", ask(), None), log.create("r1", ask(context="c2"), key))
        assert [created for _, created in made] == [True, True]
        assert proxy.cut == proxy.cuts
        for number in range(10):
            proxy.cuts += number % 2 + 1
            events = await asyncio.gather(*(log.append(f"r{n % 2}", [TextDelta(str(n))]) for n in range(20)))
            assert len({(logged.run_id, logged.seq) for (logged,) in events}) == 20
            assert await log.read("r0", number * 10) == tuple(logged for (logged,) in events[::2])
        assert proxy.cut == proxy.cuts
        proxy.cuts += 1
        await log.append("r0", [Finished()])
        assert proxy.cut == proxy.cuts
        assert len(await log.read("r0")) == 101
        await store.close()


async def test_a_change_may_be_made_twice_when_the_answer_is_lost(postgres: Server, tmp_path: Path) -> None:
    name = postgres.database()
    with proxied(tmp_path, postgres) as proxy:
        store = PostgresStore(f"postgresql://elf@/{name}?host={tmp_path}")
        await store.open()
        tries: list[int] = []

        def change(number: int) -> Callable[[Connection], int]:
            def insert(connection: Connection) -> int:
                tries.append(number)
                connection.execute("INSERT INTO outbox_seen VALUES (?) ON CONFLICT DO NOTHING", (number,))
                return number

            return insert

        await store.write(lambda connection: connection.execute("CREATE TABLE outbox_seen (n INTEGER PRIMARY KEY)"))
        proxy.cuts += 1
        assert await asyncio.gather(*(store.write(change(number)) for number in range(5))) == [0, 1, 2, 3, 4]
        assert len(tries) > 5
        count = "SELECT COUNT(*) FROM outbox_seen"
        assert await store.read(lambda connection: connection.execute(count).fetchone()) == (5,)
        await store.close()
