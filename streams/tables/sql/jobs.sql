-- Jobs, their history and their timers.

-- name: by_id
SELECT * FROM jobs WHERE id = :id;

-- name: of_tenant
SELECT * FROM jobs WHERE id = :id AND tenant = :tenant AND state != 'deleted';

-- name: by_ids
SELECT * FROM jobs WHERE id IN (SELECT value FROM json_each(:ids));

-- name: newest_generation
SELECT * FROM jobs
WHERE tenant = :tenant AND document_id = :document_id AND options = :options
ORDER BY generation DESC LIMIT 1;

-- name: page
SELECT * FROM jobs
WHERE tenant = :tenant AND id < :before AND state != 'deleted'
ORDER BY id DESC LIMIT :most;

-- name: page_in_state
SELECT * FROM jobs
WHERE tenant = :tenant AND state = :state AND id < :before
ORDER BY id DESC LIMIT :most;

-- name: insert
INSERT INTO jobs (
    id, tenant, document_id, options, generation, state, attempt, tries, losses, name, media_type,
    source_blob, source_sha256, source_bytes, traceparent, reference, created_ms, updated_ms)
VALUES (
    :id, :tenant, :document_id, :options, :generation, 'uploaded', 1, 0, 0, :name, :media_type,
    :source_blob, :source_sha256, :source_bytes, :traceparent, :reference, :now_ms, :now_ms)
ON CONFLICT (tenant, document_id, options, generation) DO NOTHING;

-- name: update
UPDATE jobs SET
    state = :state, attempt = :attempt, tries = :tries, losses = :losses, parser = :parser,
    parser_version = :parser_version, vendor_job_id = :vendor_job_id, result_blob = :result_blob,
    result_sha256 = :result_sha256, result_bytes = :result_bytes, pages = :pages,
    warnings = :warnings, error_code = :error_code, error_message = :error_message,
    updated_ms = :now_ms
WHERE id = :id AND state = :state_before AND attempt = :attempt_before;

-- name: count_moves
INSERT INTO job_counts (state, jobs) VALUES (:state, :change)
ON CONFLICT (state) DO UPDATE SET jobs = jobs + :change;

-- name: counts
SELECT state, jobs FROM job_counts;

-- name: oldest_unfinished
SELECT min(created_ms) AS created_ms FROM jobs
WHERE state != 'complete' AND state != 'failed_parse' AND state != 'cancelled'
AND state != 'deleted';

-- name: unfinished_without_timer
-- The bound on created_ms chooses the index of unfinished jobs over a scan of them all.
SELECT count(*) AS jobs FROM jobs
WHERE state != 'complete' AND state != 'failed_parse' AND state != 'cancelled'
AND state != 'deleted' AND created_ms > 0
AND NOT EXISTS (SELECT 1 FROM timers WHERE job_id = jobs.id AND kind = 'step');

-- name: seen_events
SELECT event_id FROM job_events WHERE event_id IN (SELECT value FROM json_each(:ids));

-- name: remember
INSERT INTO job_events (
    event_id, job_id, type, attempt, from_state, to_state, ignored, code, message, event_ms,
    recorded_ms)
VALUES (
    :event_id, :job_id, :type, :attempt, :from_state, :to_state, :ignored, :code, :message,
    :event_ms, :now_ms);

-- name: history
SELECT * FROM job_events WHERE job_id = :job_id ORDER BY seq LIMIT :most;

-- name: set_timer
INSERT INTO timers (job_id, kind, due_ms, set_ms, repeats)
VALUES (:job_id, :kind, :due_ms, :now_ms, 0)
ON CONFLICT (job_id, kind) DO UPDATE SET due_ms = :due_ms, set_ms = :now_ms, repeats = 0;

-- name: remove_timer
DELETE FROM timers WHERE job_id = :job_id AND kind = :kind;

-- name: due_steps
SELECT
    timers.due_ms, timers.set_ms, timers.repeats, jobs.*,
    attempts.deadline_ms, attempts.ended_ms,
    CASE WHEN attempts.ended_ms IS NULL THEN
        (SELECT reason FROM dead_letters
         WHERE topic = 'documents.uploaded' AND key_text = jobs.id
         AND dead_letters.created_ms >= timers.set_ms LIMIT 1)
    ELSE
        -- The end event leaves the outbox as it is applied or buried: one that is there still
        -- may yet arrive.
        (SELECT reason FROM dead_letters
         WHERE topic = 'jobs.events' AND key_text = jobs.id
         AND dead_letters.created_ms >= attempts.ended_ms
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE topic = 'jobs.events' AND key = jobs.id)
         LIMIT 1)
    END AS dead_letter
FROM timers
JOIN jobs ON jobs.id = timers.job_id
LEFT JOIN attempts
    ON attempts.job_id = jobs.id AND attempts.attempt = jobs.attempt AND attempts.stage = 'parse'
WHERE timers.kind = 'step' AND timers.due_ms <= :now_ms
-- What is at a parser elsewhere, or may be, is looked at there first: vendor.sql.
AND jobs.state != 'parse_queued'
AND (attempts.intent_ms IS NULL OR attempts.ended_ms IS NOT NULL
    OR attempts.deadline_ms > :now_ms OR jobs.state NOT IN ('uploaded', 'parsing'))
ORDER BY timers.due_ms LIMIT :most;

-- name: take_timer
UPDATE timers SET due_ms = :next_ms, set_ms = :now_ms, repeats = repeats + :repeat
WHERE job_id = :job_id AND kind = :kind AND due_ms = :due_ms;

-- name: due_erasures
SELECT timers.job_id, timers.due_ms, jobs.tenant, jobs.attempt FROM timers
JOIN jobs ON jobs.id = timers.job_id
WHERE timers.kind = 'erase' AND timers.due_ms <= :now_ms
ORDER BY timers.due_ms LIMIT :most;

-- name: offer_all_now
UPDATE timers SET due_ms = :now_ms
WHERE kind = 'step' AND due_ms > :now_ms
AND job_id IN (SELECT id FROM jobs WHERE state = 'uploaded');

-- name: named_blobs
SELECT id, tenant, source_blob, result_blob, attempt, state FROM jobs
WHERE id IN (SELECT value FROM json_each(:ids));
