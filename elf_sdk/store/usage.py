"""What models used and cost, one row a call: the base of bills and budgets. It outlives the runs that it came from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from elf_sdk.store.database import Connection, Store, milliseconds

__all__ = ["UsageRecords", "UsageRow", "UsageTotal", "add_usage"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 500
"""Rows in one statement: ten values each, and SQLite binds 32,766 at most."""


class UsageRow(NamedTuple):
    """One call to a model; `cost` in billionths of a US dollar, `at` in milliseconds since 1970."""

    run_id: str
    seq: int
    team: str
    owner_issuer: str
    owner_subject: str
    model: str
    input_tokens: int
    output_tokens: int
    cost: int | None
    at: int


_COLUMNS: Final = ", ".join(UsageRow._fields)
_VALUES: Final = f"({', '.join('?' * len(UsageRow._fields))})"

Part = Literal["team", "model", "user", "day"]

_PARTS: Final[dict[Part, tuple[str, ...]]] = {
    "team": ("team",),
    "model": ("model",),
    "user": ("owner_issuer", "owner_subject"),
    # Whole days of UTC; both databases divide integers to integers.
    "day": ("at / 86400000",),
}


def add_usage(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Add rows, in the transaction of the events that they come from. Those that are there already are left alone."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        connection.execute(
            f"INSERT INTO usage ({_COLUMNS}) VALUES {', '.join([_VALUES] * len(some))} "  # noqa: S608 - constants only
            "ON CONFLICT (run_id, seq) DO NOTHING",
            [value for row in some for value in row],
        )


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What was used, added up.

    Attributes:
        team: whose, where the totals are by team; else None. The next three likewise.
        model: as the provider names it.
        user: issuer and subject of the owner.
        day: in UTC, by the database's clock.
        calls: to models.
        input_tokens: of all calls.
        output_tokens: of all calls.
        cost: of the calls that have a known price, in billionths of a US dollar.
        unpriced: calls without a known price, which `cost` does not hold.
    """

    team: str | None
    model: str | None
    user: tuple[str, str] | None
    day: date | None
    calls: int
    input_tokens: int
    output_tokens: int
    cost: int
    unpriced: int


class UsageRecords:
    """The usage in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def totals(
        self,
        by: Collection[Part] = (),
        *,
        team: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[UsageTotal, ...]:
        """Totals for each team, model, user and day of `by`, in this order, days last and oldest first.

        Args:
            by: what to keep apart; nothing gives one total, or none where nothing was used.
            team: of this one alone.
            since: aware; from then on.
            until: aware; before then.
        """
        parts = [part for part in _PARTS if part in by]
        keys = [column for part in parts for column in _PARTS[part]]
        conditions, values = ["1 = 1"], list[Any]()
        for condition, value in (
            ("team = ?", team),
            ("at >= ?", None if since is None else milliseconds(since)),
            ("at < ?", None if until is None else milliseconds(until)),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        columns = ", ".join([*keys, "COUNT(*)", *map(_sum, ("input_tokens", "output_tokens", "cost")), "COUNT(cost)"])
        grouped = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else "HAVING COUNT(*) > 0"
        statement = f"SELECT {columns} FROM usage WHERE {' AND '.join(conditions)} {grouped}"  # noqa: S608 - values are bound
        return await self._store.read(
            lambda connection: tuple(_total(parts, row) for row in connection.execute(statement, values))
        )


def _sum(column: str) -> str:
    # A sum of large integers is no integer in PostgreSQL.
    return f"CAST(COALESCE(SUM({column}), 0) AS BIGINT)"


def _total(parts: Sequence[Part], row: tuple[Any, ...]) -> UsageTotal:
    left = list(row)
    found: dict[str, Any] = {}
    for part in parts:
        values = [left.pop(0) for _ in _PARTS[part]]
        found[part] = tuple(values) if part == "user" else values[0]
    if "day" in found:
        found["day"] = (_EPOCH + timedelta(days=found["day"])).date()
    calls, input_tokens, output_tokens, cost, priced = left
    return UsageTotal(
        team=found.get("team"),
        model=found.get("model"),
        user=found.get("user"),
        day=found.get("day"),
        calls=calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost=cost,
        unpriced=calls - priced,
    )
