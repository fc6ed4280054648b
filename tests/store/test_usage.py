from __future__ import annotations

from datetime import UTC, date, datetime

from elf_sdk.store import Store
from elf_sdk.store.usage import UsageRecords, UsageRow, UsageTotal, add_usage

DAY = 86_400_000
MARCH = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)

ROWS = [
    UsageRow("r1", 2, "brand-team", "https://issuer.example", "ada", "small", 10, 1, 100, MARCH),
    UsageRow("r1", 4, "brand-team", "https://issuer.example", "ada", "large", 20, 2, None, MARCH + DAY - 1),
    UsageRow("r2", 2, "brand-team", "https://issuer.example", "bob", "small", 40, 4, 400, MARCH + DAY),
    UsageRow("r3", 2, "other-team", "https://issuer.example", "ada", "small", 2**40, 8, 2**60, MARCH + 3 * DAY),
]


async def filled(store: Store) -> UsageRecords:
    await store.write(lambda connection: add_usage(connection, ROWS))
    return UsageRecords(store)


async def test_nothing_was_used_yet(store: Store) -> None:
    records = UsageRecords(store)
    assert await records.totals() == await records.totals(("team", "day")) == ()


async def test_totals(store: Store) -> None:
    records = await filled(store)
    [total] = await records.totals(team="brand-team")
    assert total == UsageTotal(None, None, None, None, 3, 70, 7, 500, unpriced=1)
    by_team = await records.totals(["team"])
    assert [(each.team, each.calls, each.cost) for each in by_team] == [
        ("brand-team", 3, 500),
        ("other-team", 1, 2**60),
    ]
    by_model = await records.totals(["model"], team="brand-team")
    assert [(each.model, each.input_tokens, each.unpriced) for each in by_model] == [("large", 20, 1), ("small", 50, 0)]
    by_user = await records.totals(["user"], team="brand-team")
    assert [(each.user, each.calls) for each in by_user] == [
        (("https://issuer.example", "ada"), 2),
        (("https://issuer.example", "bob"), 1),
    ]


async def test_days_are_those_of_utc(store: Store) -> None:
    records = await filled(store)
    by_day = await records.totals(["day", "team"])
    assert [(each.team, each.day, each.calls) for each in by_day] == [
        ("brand-team", date(2026, 3, 1), 2),
        ("brand-team", date(2026, 3, 2), 1),
        ("other-team", date(2026, 3, 4), 1),
    ]
    second = datetime(2026, 3, 2, tzinfo=UTC)
    [before] = await records.totals(until=second)
    [after] = await records.totals(since=second)
    assert (before.calls, after.calls) == (2, 2)


async def test_the_same_rows_again_are_not_counted_again(store: Store) -> None:
    records = await filled(store)
    first = await records.totals()
    await filled(store)
    assert await records.totals() == first


async def test_more_rows_than_one_statement_takes(store: Store) -> None:
    many = [ROWS[0]._replace(seq=seq) for seq in range(1, 1202)]
    await store.write(lambda connection: add_usage(connection, many))
    [total] = await UsageRecords(store).totals()
    assert (total.calls, total.cost) == (1201, 120_100)
