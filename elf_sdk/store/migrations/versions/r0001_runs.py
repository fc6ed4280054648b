"""Runs with their events and idempotency keys; delegations with their outbox.

Times are whole milliseconds since 1970 in UTC, by the database's clock. JSON is text in canonical form.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    if op.get_bind().dialect.name == "postgresql":
        # SQLite gets a function of this name with each connection.
        op.execute(
            "CREATE FUNCTION elf_now() RETURNS bigint LANGUAGE sql VOLATILE "
            "AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$"
        )
    op.create_table(
        "runs",
        # The order of creation, for lists; times are too coarse, and ids are random.
        sa.Column("number", _BIG, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("owner_issuer", sa.Text, nullable=False),
        sa.Column("owner_subject", sa.Text, nullable=False),
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("head", _BIG, nullable=False, server_default=sa.text("0")),
        # Who may append, and since which takeover.
        sa.Column("holder", sa.Text),
        sa.Column("epoch", _BIG, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", _BIG, nullable=False),
        sa.Column("updated_at", _BIG, nullable=False),
        # A head moves with each flush: with room in its page the row is changed there, and no index with it.
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("runs_by_state", "runs", ["team", "state"])
    op.create_index("runs_by_conversation", "runs", ["team", "owner_issuer", "owner_subject", "context_id"])
    op.create_table(
        "events",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("seq", _BIG, primary_key=True),
        sa.Column("epoch", _BIG, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("at", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("team", sa.Text, primary_key=True),
        sa.Column("owner_issuer", sa.Text, primary_key=True),
        sa.Column("owner_subject", sa.Text, primary_key=True),
        sa.Column("protocol", sa.Text, primary_key=True),
        sa.Column("operation", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created_at", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_keys_by_run", "idempotency_keys", ["run_id"])
    op.create_table(
        "delegations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("owner_issuer", sa.Text, nullable=False),
        sa.Column("owner_subject", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("preview", sa.Text, nullable=False),
        sa.Column("preview_hash", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("remote_task_id", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("created_at", _BIG, nullable=False),
        sa.Column("updated_at", _BIG, nullable=False),
    )
    op.create_index("delegations_by_session", "delegations", ["session_id"])
    op.create_index("delegations_by_state", "delegations", ["team", "state"])
    op.create_table(
        "outbox",
        # Also the id of the message that is sent, at each attempt.
        sa.Column("delegation_id", sa.Text, sa.ForeignKey("delegations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("attempts", _BIG, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", _BIG, nullable=False),
    )
