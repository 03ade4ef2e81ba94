-- Shared rate limits and circuits of accounts elsewhere, and what operators change at run time.

-- name: bucket
SELECT tokens_micro, refilled_ms, slowed, slow_until_ms, version
FROM shared_limits WHERE account = :account;

-- name: save_bucket
INSERT INTO shared_limits (account, tokens_micro, refilled_ms, slowed, slow_until_ms, version)
VALUES (:account, :tokens_micro, :refilled_ms, :slowed, :slow_until_ms, :seen + 1)
ON CONFLICT (account) DO UPDATE SET
    tokens_micro = excluded.tokens_micro,
    refilled_ms = excluded.refilled_ms,
    slowed = excluded.slowed,
    slow_until_ms = excluded.slow_until_ms,
    version = excluded.version
WHERE shared_limits.version = :seen;

-- name: circuit
SELECT state, epoch, failures, opens, since_ms, until_ms, reason, last_success_ms,
    last_failure_ms, errors, version
FROM circuits WHERE account = :account;

-- name: save_circuit
INSERT INTO circuits (account, state, epoch, failures, opens, since_ms, until_ms, reason,
    last_success_ms, last_failure_ms, errors, version)
VALUES (:account, :state, :epoch, :failures, :opens, :since_ms, :until_ms, :reason,
    :last_success_ms, :last_failure_ms, :errors, :seen + 1)
ON CONFLICT (account) DO UPDATE SET
    state = excluded.state,
    epoch = excluded.epoch,
    failures = excluded.failures,
    opens = excluded.opens,
    since_ms = excluded.since_ms,
    until_ms = excluded.until_ms,
    reason = excluded.reason,
    last_success_ms = excluded.last_success_ms,
    last_failure_ms = excluded.last_failure_ms,
    errors = excluded.errors,
    version = excluded.version
WHERE circuits.version = :seen;

-- name: settings
SELECT name, value, changed_ms FROM settings ORDER BY name;

-- name: setting
SELECT value FROM settings WHERE name = :name;

-- name: set
INSERT INTO settings (name, value, changed_ms) VALUES (:name, :value, :now_ms)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_ms = excluded.changed_ms;

-- name: unset
DELETE FROM settings WHERE name = :name;

-- name: note_change
INSERT INTO settings_audit (name, from_value, to_value, who, changed_ms)
VALUES (:name, :from_value, :to_value, :who, :now_ms);

-- name: changes
SELECT seq, name, from_value, to_value, who, changed_ms
FROM settings_audit ORDER BY seq DESC LIMIT :most;

-- name: money_changed
-- When a budget, or the stop of all spending, was changed last.
SELECT changed_ms FROM settings_audit
WHERE name = 'spending.frozen' OR name GLOB 'budgets.*'
ORDER BY seq DESC LIMIT 1;
