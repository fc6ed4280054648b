"""Leases, turns and commands, so that more than one replica may serve a team; checkpoints, push, usage, and facts.

Before this revision one process served a team, so what is unfinished belongs to nobody: each such run gets a turn of
its own, and the first replica that starts takes it up.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_HELD = sa.text("holder IS NOT NULL")
_IDLE = sa.text("holder IS NULL AND state IN ('queued', 'working')")
_TO_COMPACT = sa.text("compacted = 0 AND state IN ('finished', 'failed', 'rejected', 'cancelled')")


def upgrade() -> None:
    """Add what several replicas need."""
    # The scoped conversation, by which runs wait for each other.
    op.add_column("runs", sa.Column("conversation", sa.Text, nullable=False, server_default=""))
    # When the state changed; heads move too often for an index to follow.
    op.add_column("runs", sa.Column("changed_at", _BIG, nullable=False, server_default=sa.text("0")))
    # Milliseconds that the caller leaves for the work; null where the team's own bound holds alone.
    op.add_column("runs", sa.Column("deadline", _BIG))
    # What runs it: image digest and hash of the graph or crew.
    op.add_column("runs", sa.Column("build", sa.Text))
    # What was done after the end: 1 where text deltas were joined, 2 where only what a key needs is left.
    op.add_column("runs", sa.Column("compacted", _BIG, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE runs SET changed_at = updated_at, holder = NULL")
    op.execute("UPDATE runs SET conversation = 'run ' || id WHERE state IN ('queued', 'working')")
    op.drop_index("runs_by_state", "runs")
    op.create_index("runs_by_state", "runs", ["team", "state", "changed_at"])
    op.create_index("runs_by_change", "runs", ["team", "owner_issuer", "owner_subject", "changed_at", "number"])
    op.create_index("runs_idle", "runs", ["conversation", "number"], postgresql_where=_IDLE, sqlite_where=_IDLE)
    op.create_index("runs_by_holder", "runs", ["holder"], postgresql_where=_HELD, sqlite_where=_HELD)
    op.create_index("runs_to_compact", "runs", ["changed_at"], postgresql_where=_TO_COMPACT, sqlite_where=_TO_COMPACT)
    op.drop_index("delegations_by_state", "delegations")
    op.create_index("delegations_by_state", "delegations", ["team", "state", "updated_at"])
    # Which process delivers it; its lease says for how long.
    op.add_column("outbox", sa.Column("holder", sa.Text))
    if op.get_bind().dialect.name == "postgresql":
        # SQLite gets a function of this name with each connection.
        op.execute(
            "CREATE FUNCTION elf_uptime() RETURNS bigint LANGUAGE sql VOLATILE AS "
            "$$ SELECT (extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000)::bigint $$"
        )
    op.create_table(
        "leases",
        # One for each life of a process.
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("started_at", _BIG, nullable=False),
        sa.Column("expires_at", _BIG, nullable=False),
    )
    op.create_table(
        "turns",
        sa.Column("conversation", sa.Text, primary_key=True),
        # The one run of the conversation that may work now.
        sa.Column("run_id", sa.Text, nullable=False),
        # How many wait behind it.
        sa.Column("waiting", _BIG, nullable=False, server_default=sa.text("0")),
        sqlite_with_rowid=False,
    )
    op.create_index("turns_by_run", "turns", ["run_id"], unique=True)
    op.execute(
        "INSERT INTO turns (conversation, run_id) "
        "SELECT conversation, id FROM runs WHERE state IN ('queued', 'working')"
    )
    op.create_table(
        "commands",
        sa.Column("number", _BIG, sa.Identity(), primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", _BIG, nullable=False),
    )
    op.create_index("commands_by_run", "commands", ["run_id"])
    op.create_table(
        "checkpoints",
        # What an adapter keeps of a run, until its end.
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "push_configs",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("config_id", sa.Text, primary_key=True),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        # The URL's, so that a slow receiver delays no other.
        sa.Column("host", sa.Text, nullable=False),
        # As the caller gave them, sent back with each notification.
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("scheme", sa.Text, nullable=False),
        sa.Column("credentials", sa.Text, nullable=False),
        # The last event that was delivered: the run's log is the queue.
        sa.Column("sent_seq", _BIG, nullable=False),
        sa.Column("attempts", _BIG, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", _BIG, nullable=False),
        # Until when the replica that delivers it has it for itself.
        sa.Column("claimed_until", _BIG, nullable=False, server_default=sa.text("0")),
        # Null while there is something to deliver; else why it ended, or empty where all was delivered.
        sa.Column("ended", sa.Text),
        sa.Column("created_at", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("push_configs_due", "push_configs", ["team", "ended", "next_attempt_at"])
    op.create_table(
        "usage",
        # Kept when the run goes, because budgets and bills are older than conversations.
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("seq", _BIG, primary_key=True),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("owner_issuer", sa.Text, nullable=False),
        sa.Column("owner_subject", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("input_tokens", _BIG, nullable=False),
        sa.Column("output_tokens", _BIG, nullable=False),
        # Billionths of a US dollar; null where no price is known.
        sa.Column("cost", _BIG),
        sa.Column("at", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("usage_by_team", "usage", ["team", "at"])
    op.create_table(
        "facts",
        # What is true of this database: its environment, and the oldest revision whose release may use it.
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    # A revision that only adds leaves this as it is; one that takes something away names itself.
    op.execute("INSERT INTO facts (name, value) VALUES ('min_compatible', '0002')")
