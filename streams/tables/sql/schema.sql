-- The tables, as versions applied in order; a version that has shipped is never changed.
-- Times are unix milliseconds UTC (`_ms`) by the table's own clock, now_ms().

-- version: 1
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    document_id TEXT NOT NULL,
    options TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    state TEXT NOT NULL CHECK (state IN (
        'uploaded', 'parsing', 'parse_queued', 'retry_wait', 'parsed',
        'complete', 'failed_parse', 'cancelled', 'deleted')),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    tries INTEGER NOT NULL CHECK (tries BETWEEN 0 AND 5),
    losses INTEGER NOT NULL CHECK (losses BETWEEN 0 AND 11),
    name TEXT,
    media_type TEXT NOT NULL,
    source_blob TEXT NOT NULL,
    source_sha256 TEXT NOT NULL CHECK (length(source_sha256) = 64),
    source_bytes INTEGER NOT NULL CHECK (source_bytes > 0),
    parser TEXT,
    parser_version TEXT,
    vendor_job_id TEXT,
    result_blob TEXT,
    result_sha256 TEXT,
    result_bytes INTEGER,
    pages INTEGER CHECK (pages >= 0),
    warnings TEXT NOT NULL DEFAULT '[]',
    error_code TEXT,
    error_message TEXT,
    traceparent TEXT,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (tenant, document_id, options, generation),
    CHECK ((state IN ('parsed', 'complete')) = (result_blob IS NOT NULL)),
    CHECK ((result_blob IS NULL) = (result_sha256 IS NULL)),
    CHECK ((result_blob IS NULL) = (result_bytes IS NULL)),
    CHECK (state NOT IN ('parsed', 'complete') OR parser IS NOT NULL),
    CHECK (state != 'failed_parse' OR error_code IS NOT NULL),
    CHECK (state != 'parse_queued' OR vendor_job_id IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_state ON jobs (tenant, state, id);
CREATE INDEX jobs_unfinished ON jobs (created_ms)
    WHERE state IN ('uploaded', 'parsing', 'parse_queued', 'retry_wait', 'parsed');

-- Sums kept by whoever moves a job, so that no scrape counts a million rows.
CREATE TABLE job_counts (
    state TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The history, ignored events too; its unique event id is the inbox.
CREATE TABLE job_events (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    job_id TEXT NOT NULL,
    type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    from_state TEXT,
    to_state TEXT,
    ignored TEXT,
    code TEXT,
    message TEXT,
    event_ms INTEGER NOT NULL,
    recorded_ms INTEGER NOT NULL,
    CHECK ((to_state IS NULL) = (ignored IS NOT NULL))
) STRICT;
CREATE INDEX job_events_by_job ON job_events (job_id, seq);

CREATE TABLE timers (
    job_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('step', 'settle', 'erase')),
    due_ms INTEGER NOT NULL,
    set_ms INTEGER NOT NULL,
    repeats INTEGER NOT NULL CHECK (repeats >= 0),
    PRIMARY KEY (job_id, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX timers_due ON timers (due_ms);

CREATE TABLE attempts (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    stage TEXT NOT NULL,
    owner TEXT NOT NULL,
    claimed_ms INTEGER NOT NULL,
    deadline_ms INTEGER NOT NULL,
    intent_ms INTEGER,
    ended_ms INTEGER,
    PRIMARY KEY (job_id, attempt, stage)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_running ON attempts (owner) WHERE ended_ms IS NULL;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    headers BLOB NOT NULL,
    kept_until_seen INTEGER NOT NULL CHECK (kept_until_seen IN (0, 1)),
    send_after_ms INTEGER NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (send_after_ms);

CREATE TABLE positions (
    cluster_id TEXT NOT NULL,
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (cluster_id, consumer_group, topic, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    processor TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    record_offset INTEGER NOT NULL,
    key BLOB,
    key_text TEXT,
    value BLOB,
    headers TEXT NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    UNIQUE (processor, cluster_id, topic, partition, record_offset)
) STRICT;
CREATE INDEX dead_letters_by_key ON dead_letters (topic, key_text, created_ms);

CREATE TABLE processor_stops (
    processor TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    reason TEXT NOT NULL,
    stopped_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

-- Each cluster of brokers that this deployment has made topics on.
CREATE TABLE clusters (
    cluster_id TEXT PRIMARY KEY,
    first_seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- version: 2
-- States are compared one by one: SQLite builds the set of an IN anew for every row written,
-- which was a third of the price of moving a job.
CREATE TABLE jobs_2 (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    document_id TEXT NOT NULL,
    options TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    state TEXT NOT NULL CHECK (
        state = 'uploaded' OR state = 'parsing' OR state = 'parse_queued' OR state = 'retry_wait'
        OR state = 'parsed' OR state = 'complete' OR state = 'failed_parse' OR state = 'cancelled'
        OR state = 'deleted'),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    tries INTEGER NOT NULL CHECK (tries BETWEEN 0 AND 5),
    losses INTEGER NOT NULL CHECK (losses BETWEEN 0 AND 11),
    name TEXT,
    media_type TEXT NOT NULL,
    source_blob TEXT NOT NULL,
    source_sha256 TEXT NOT NULL CHECK (length(source_sha256) = 64),
    source_bytes INTEGER NOT NULL CHECK (source_bytes > 0),
    parser TEXT,
    parser_version TEXT,
    vendor_job_id TEXT,
    result_blob TEXT,
    result_sha256 TEXT,
    result_bytes INTEGER,
    pages INTEGER CHECK (pages >= 0),
    warnings TEXT NOT NULL DEFAULT '[]',
    error_code TEXT,
    error_message TEXT,
    traceparent TEXT,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (tenant, document_id, options, generation),
    CHECK ((state IN ('parsed', 'complete')) = (result_blob IS NOT NULL)),
    CHECK ((result_blob IS NULL) = (result_sha256 IS NULL)),
    CHECK ((result_blob IS NULL) = (result_bytes IS NULL)),
    CHECK (state NOT IN ('parsed', 'complete') OR parser IS NOT NULL),
    CHECK (state != 'failed_parse' OR error_code IS NOT NULL),
    CHECK (state != 'parse_queued' OR vendor_job_id IS NOT NULL)
) STRICT, WITHOUT ROWID;
INSERT INTO jobs_2 SELECT * FROM jobs ORDER BY id;
DROP TABLE jobs;
ALTER TABLE jobs_2 RENAME TO jobs;
CREATE INDEX jobs_by_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_state ON jobs (tenant, state, id);
CREATE INDEX jobs_unfinished ON jobs (created_ms)
    WHERE state != 'complete' AND state != 'failed_parse' AND state != 'cancelled'
    AND state != 'deleted';

CREATE TABLE timers_2 (
    job_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'step' OR kind = 'settle' OR kind = 'erase'),
    due_ms INTEGER NOT NULL,
    set_ms INTEGER NOT NULL,
    repeats INTEGER NOT NULL CHECK (repeats >= 0),
    PRIMARY KEY (job_id, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO timers_2 SELECT * FROM timers;
DROP TABLE timers;
ALTER TABLE timers_2 RENAME TO timers;
CREATE INDEX timers_due ON timers (due_ms);

-- version: 3
-- Each account at a parser elsewhere: the token bucket that all processes take from.
CREATE TABLE shared_limits (
    account TEXT PRIMARY KEY,
    tokens_micro INTEGER NOT NULL,
    refilled_ms INTEGER NOT NULL,
    slowed INTEGER NOT NULL CHECK (slowed BETWEEN 0 AND 3),
    slow_until_ms INTEGER NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT, WITHOUT ROWID;

-- Its circuit: `until_ms` is the next probe while open, and the probe's own end while half open;
-- an open one without it waits for a person.
CREATE TABLE circuits (
    account TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
    epoch INTEGER NOT NULL CHECK (epoch >= 0),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    opens INTEGER NOT NULL CHECK (opens >= 0),
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    reason TEXT,
    last_success_ms INTEGER,
    last_failure_ms INTEGER,
    errors TEXT NOT NULL DEFAULT '[]',
    version INTEGER NOT NULL CHECK (version >= 1),
    CHECK ((state = 'closed') = (reason IS NULL)),
    CHECK (state != 'closed' OR until_ms IS NULL),
    CHECK (state != 'half_open' OR until_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- What operators changed at run time; where there is no row, the environment's value stands.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings_audit (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    from_value TEXT,
    to_value TEXT,
    who TEXT NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT;

ALTER TABLE keys ADD COLUMN role TEXT NOT NULL DEFAULT 'tenant'
    CHECK (role IN ('tenant', 'operator'));

-- version: 4
-- Every job that was created at a parser elsewhere, and what it cost once that is known.
CREATE TABLE vendor_jobs (
    parser TEXT NOT NULL,
    vendor_job_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    queued_ms INTEGER NOT NULL,
    settled_ms INTEGER,
    outcome TEXT CHECK (outcome IN ('billed', 'unbilled', 'never_told')),
    credits REAL CHECK (credits >= 0),
    kept_there INTEGER NOT NULL DEFAULT 1 CHECK (kept_there IN (0, 1)),
    PRIMARY KEY (parser, vendor_job_id),
    CHECK ((settled_ms IS NULL) = (outcome IS NULL)),
    CHECK ((credits IS NOT NULL) = (outcome IS NOT NULL AND outcome = 'billed'))
) STRICT, WITHOUT ROWID;
CREATE INDEX vendor_jobs_by_job ON vendor_jobs (job_id);

-- Where the money of an attempt's intent would be spent.
ALTER TABLE attempts ADD COLUMN intent_parser TEXT;

-- version: 5
CREATE INDEX attempts_intended ON attempts (deadline_ms)
    WHERE intent_ms IS NOT NULL AND ended_ms IS NULL;

-- version: 6
-- Money is whole micro-dollars. What may be spent, in whichever of the three measures is limited.
CREATE TABLE budgets (
    id TEXT PRIMARY KEY,
    scope TEXT NOT NULL CHECK (scope IN ('deployment', 'tenant', 'service')),
    subject TEXT NOT NULL,
    period TEXT NOT NULL CHECK (period IN ('hour', 'day', 'month')),
    limit_micro_usd INTEGER CHECK (limit_micro_usd >= 0),
    limit_pages INTEGER CHECK (limit_pages >= 0),
    limit_requests INTEGER CHECK (limit_requests >= 0),
    hard INTEGER NOT NULL CHECK (hard IN (0, 1)),
    policy TEXT NOT NULL CHECK (policy IN ('reject', 'wait', 'local')),
    changed_ms INTEGER NOT NULL,
    UNIQUE (scope, subject, period),
    CHECK ((scope = 'deployment') = (subject = '')),
    CHECK (limit_micro_usd IS NOT NULL OR limit_pages IS NOT NULL OR limit_requests IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- What is held and spent of a budget in one window; made from the sums, when the budget is set or
-- at its first reservation.
CREATE TABLE budget_windows (
    budget_id TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL CHECK (end_ms > start_ms),
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    reserved_micro_usd INTEGER NOT NULL CHECK (reserved_micro_usd >= 0),
    reserved_pages INTEGER NOT NULL CHECK (reserved_pages >= 0),
    reserved_requests INTEGER NOT NULL CHECK (reserved_requests >= 0),
    spent_micro_usd INTEGER NOT NULL,
    spent_pages INTEGER NOT NULL,
    spent_requests INTEGER NOT NULL,
    PRIMARY KEY (budget_id, start_ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_windows_by_end ON budget_windows (end_ms);

-- One for each attempt that may cost money.
CREATE TABLE reservations (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    tenant TEXT NOT NULL,
    service TEXT NOT NULL,
    tier TEXT,
    pages INTEGER NOT NULL CHECK (pages >= 0),
    micro_usd INTEGER NOT NULL CHECK (micro_usd >= 0),
    micro_usd_per_kilocredit INTEGER NOT NULL CHECK (micro_usd_per_kilocredit >= 0),
    state TEXT NOT NULL CHECK (state IN ('reserved', 'settled', 'released')),
    reserved_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    PRIMARY KEY (job_id, attempt),
    CHECK ((state = 'reserved') = (ended_ms IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_open ON reservations (reserved_ms) WHERE state = 'reserved';

-- Every cost event once, as the changes that it makes to what is held and to what is spent.
CREATE TABLE cost_ledger (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('reserved', 'settled', 'released', 'corrected')),
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    tenant TEXT NOT NULL,
    service TEXT NOT NULL,
    tier TEXT,
    vendor_job_id TEXT,
    basis TEXT CHECK (basis IN ('billed', 'unbilled', 'estimated')),
    reserved_micro_usd INTEGER NOT NULL,
    spent_micro_usd INTEGER NOT NULL,
    spent_pages INTEGER NOT NULL,
    spent_requests INTEGER NOT NULL,
    credits REAL,
    day TEXT NOT NULL CHECK (length(day) = 10),
    booked_ms INTEGER NOT NULL,
    event_ms INTEGER NOT NULL,
    recorded_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX cost_ledger_by_job ON cost_ledger (job_id);
CREATE INDEX cost_ledger_by_moment ON cost_ledger (booked_ms);

-- Sums of the ledger, kept with it, so that no report reads a year of lines.
-- `estimated_micro_usd` is what was held for what `settled_micro_usd` settled.
CREATE TABLE cost_days (
    day TEXT NOT NULL,
    tenant TEXT NOT NULL,
    service TEXT NOT NULL,
    tier TEXT NOT NULL,
    spent_micro_usd INTEGER NOT NULL,
    spent_pages INTEGER NOT NULL,
    spent_requests INTEGER NOT NULL,
    estimated_micro_usd INTEGER NOT NULL,
    settled_micro_usd INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, service, tier)
) STRICT, WITHOUT ROWID;

-- Alerts that were raised, and whether the operator's webhook has taken them.
CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    tenant TEXT NOT NULL,
    body TEXT NOT NULL,
    raised_ms INTEGER NOT NULL,
    next_try_ms INTEGER,
    tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    delivered_ms INTEGER,
    last_error TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_due ON alerts (next_try_ms) WHERE next_try_ms IS NOT NULL;

-- What a vendor's job was settled at: a later bill corrects it by the difference.
ALTER TABLE vendor_jobs ADD COLUMN micro_usd INTEGER CHECK (micro_usd >= 0);

-- version: 7
-- What producers on the bus submitted, and what they were answered: the same id, the same answer.
CREATE TABLE submissions (
    tenant TEXT NOT NULL,
    submission_id TEXT NOT NULL,
    job_id TEXT,
    answer TEXT NOT NULL,
    answered_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, submission_id)
) STRICT, WITHOUT ROWID;

ALTER TABLE jobs ADD COLUMN reference TEXT;

-- A record's key that need not be text: answers are keyed as what they answer was.
ALTER TABLE outbox ADD COLUMN raw_key BLOB;

-- version: 8
-- A budget's window that is not opened yet is summed up from the lines of its subject alone.
CREATE INDEX cost_ledger_by_tenant ON cost_ledger (tenant, booked_ms);
CREATE INDEX cost_ledger_by_service ON cost_ledger (service, booked_ms);
