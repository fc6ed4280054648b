-- What the revisions in migrations/ add up to; a test compares the two.
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE runs (
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    team TEXT NOT NULL,
    owner_issuer TEXT NOT NULL,
    owner_subject TEXT NOT NULL,
    context_id TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    head INTEGER DEFAULT 0 NOT NULL,
    holder TEXT,
    epoch INTEGER DEFAULT 0 NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    conversation TEXT DEFAULT '' NOT NULL,
    changed_at INTEGER DEFAULT 0 NOT NULL,
    deadline INTEGER,
    build TEXT,
    compacted INTEGER DEFAULT 0 NOT NULL,
    PRIMARY KEY (number),
    UNIQUE (id)
);
CREATE INDEX runs_by_conversation ON runs (team, owner_issuer, owner_subject, context_id);
CREATE TABLE events (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (run_id, seq),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE idempotency_keys (
    team TEXT NOT NULL,
    owner_issuer TEXT NOT NULL,
    owner_subject TEXT NOT NULL,
    protocol TEXT NOT NULL,
    operation TEXT NOT NULL,
    "key" TEXT NOT NULL,
    run_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (team, owner_issuer, owner_subject, protocol, operation, "key"),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_run ON idempotency_keys (run_id);
CREATE TABLE delegations (
    id TEXT NOT NULL,
    team TEXT NOT NULL,
    owner_issuer TEXT NOT NULL,
    owner_subject TEXT NOT NULL,
    session_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    proposal_id TEXT NOT NULL,
    target TEXT NOT NULL,
    preview TEXT NOT NULL,
    preview_hash TEXT NOT NULL,
    state TEXT NOT NULL,
    remote_task_id TEXT,
    result TEXT,
    error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX delegations_by_session ON delegations (session_id);
CREATE TABLE outbox (
    delegation_id TEXT NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    holder TEXT,
    PRIMARY KEY (delegation_id),
    FOREIGN KEY(delegation_id) REFERENCES delegations (id) ON DELETE CASCADE
);
CREATE INDEX runs_by_state ON runs (team, state, changed_at);
CREATE INDEX runs_by_change ON runs (team, owner_issuer, owner_subject, changed_at, number);
CREATE INDEX runs_idle ON runs (conversation, number) WHERE holder IS NULL AND state IN ('queued', 'working');
CREATE INDEX runs_by_holder ON runs (holder) WHERE holder IS NOT NULL;
CREATE INDEX runs_to_compact ON runs (changed_at) WHERE compacted = 0 AND state IN ('finished', 'failed', 'rejected', 'cancelled');
CREATE INDEX delegations_by_state ON delegations (team, state, updated_at);
CREATE TABLE leases (
    holder TEXT NOT NULL,
    name TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (holder)
);
CREATE TABLE turns (
    conversation TEXT NOT NULL,
    run_id TEXT NOT NULL,
    waiting INTEGER DEFAULT 0 NOT NULL,
    PRIMARY KEY (conversation)
) WITHOUT ROWID;
CREATE UNIQUE INDEX turns_by_run ON turns (run_id);
CREATE TABLE commands (
    number INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (number),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX commands_by_run ON commands (run_id);
CREATE TABLE checkpoints (
    run_id TEXT NOT NULL,
    "key" TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (run_id, "key"),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE TABLE push_configs (
    run_id TEXT NOT NULL,
    config_id TEXT NOT NULL,
    team TEXT NOT NULL,
    url TEXT NOT NULL,
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    scheme TEXT NOT NULL,
    credentials TEXT NOT NULL,
    sent_seq INTEGER NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    claimed_until INTEGER DEFAULT 0 NOT NULL,
    ended TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, config_id),
    FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX push_configs_due ON push_configs (team, ended, next_attempt_at);
CREATE TABLE usage (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    team TEXT NOT NULL,
    owner_issuer TEXT NOT NULL,
    owner_subject TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost INTEGER,
    at INTEGER NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
CREATE INDEX usage_by_team ON usage (team, at);
CREATE TABLE facts (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
INSERT INTO facts (name, value) VALUES ('min_compatible', '0002');
