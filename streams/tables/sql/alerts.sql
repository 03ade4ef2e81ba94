-- Alerts: one row each, due at the operator's webhook until it is delivered or given up.

-- name: raise
INSERT INTO alerts (id, type, tenant, body, raised_ms, next_try_ms)
VALUES (:id, :type, :tenant, :body, :raised_ms, :next_try_ms)
ON CONFLICT (id) DO NOTHING;

-- name: due
SELECT id, type, body, next_try_ms, tries, last_error FROM alerts
WHERE next_try_ms IS NOT NULL AND next_try_ms <= :now_ms
ORDER BY next_try_ms LIMIT :most;

-- name: take
-- Put off before the call: whoever read the same due time is too late.
UPDATE alerts SET next_try_ms = :held_ms, tries = tries + 1
WHERE id = :id AND next_try_ms = :due_ms;

-- name: put_off
-- Given up where there is no next try.
UPDATE alerts SET next_try_ms = :next_ms, last_error = :error
WHERE id = :id AND next_try_ms = :held_ms;

-- name: deliver
UPDATE alerts SET next_try_ms = NULL, delivered_ms = :now_ms, last_error = NULL
WHERE id = :id AND delivered_ms IS NULL;

-- name: latest
SELECT * FROM alerts ORDER BY raised_ms DESC, id LIMIT :most;
