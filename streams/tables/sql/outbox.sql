-- The outbox: events on their way.

-- name: put
INSERT INTO outbox (
    event_id, topic, key, value, headers, kept_until_seen, send_after_ms, created_ms)
VALUES (
    :event_id, :topic, :key, :value, :headers, :kept_until_seen, :now_ms + :takeover_ms, :now_ms)
ON CONFLICT (event_id) DO NOTHING;

-- name: put_keyed
INSERT INTO outbox (
    event_id, topic, key, raw_key, value, headers, kept_until_seen, send_after_ms, created_ms)
VALUES (
    :event_id, :topic, :key, :raw_key, :value, :headers, 0, :now_ms + :takeover_ms, :now_ms)
ON CONFLICT (event_id) DO NOTHING;

-- name: take_due
UPDATE outbox SET send_after_ms = :now_ms + :takeover_ms
WHERE event_id IN (
    SELECT event_id FROM outbox WHERE send_after_ms <= :now_ms
    ORDER BY send_after_ms LIMIT :most)
RETURNING event_id, topic, key, value, headers, kept_until_seen, raw_key;

-- name: any_due
SELECT 1 FROM outbox WHERE send_after_ms <= :now_ms LIMIT 1;

-- name: remove_sent
DELETE FROM outbox
WHERE event_id IN (SELECT value FROM json_each(:ids)) AND kept_until_seen = 0;

-- name: hold_sent
UPDATE outbox SET
    sends = sends + 1,
    send_after_ms = :now_ms + min(:resend_ms << min(sends, 20), :resend_cap_ms)
WHERE event_id IN (SELECT value FROM json_each(:ids)) AND kept_until_seen = 1;

-- name: remove_seen
DELETE FROM outbox WHERE event_id IN (SELECT value FROM json_each(:ids));

-- name: depth
-- Counted by an index: the table's own pages hold every value.
SELECT
    (SELECT count(*) FROM outbox) AS events,
    (SELECT created_ms FROM outbox ORDER BY seq LIMIT 1) AS created_ms;

-- name: resend_all_now
UPDATE outbox SET send_after_ms = :now_ms WHERE send_after_ms > :now_ms;
