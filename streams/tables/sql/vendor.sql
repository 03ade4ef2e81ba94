-- Jobs at parsers elsewhere: who they are of, who has to be asked, and what they cost.

-- name: book
INSERT INTO vendor_jobs (parser, vendor_job_id, job_id, attempt, queued_ms)
VALUES (:parser, :vendor_job_id, :job_id, :attempt, :now_ms)
ON CONFLICT (parser, vendor_job_id) DO NOTHING;

-- name: by_id
SELECT * FROM vendor_jobs WHERE parser = :parser AND vendor_job_id = :vendor_job_id;

-- name: of_job
SELECT * FROM vendor_jobs WHERE job_id = :job_id ORDER BY attempt, vendor_job_id;

-- name: settle
UPDATE vendor_jobs SET
    settled_ms = :now_ms, outcome = :outcome, credits = :credits, micro_usd = :micro_usd
WHERE parser = :parser AND vendor_job_id = :vendor_job_id AND settled_ms IS NULL;

-- name: correct
UPDATE vendor_jobs SET outcome = :outcome, credits = :credits, micro_usd = :micro_usd
WHERE parser = :parser AND vendor_job_id = :vendor_job_id AND settled_ms IS NOT NULL;

-- name: set_settle
INSERT INTO timers (job_id, kind, due_ms, set_ms, repeats)
VALUES (:job_id, 'settle', :due_ms, :now_ms, 0)
ON CONFLICT (job_id, kind) DO UPDATE SET due_ms = min(due_ms, excluded.due_ms), repeats = 0;

-- name: end_settle
-- One that was set since it was taken has no repeats: a vendor job that nobody saw needs it.
DELETE FROM timers
WHERE job_id = :job_id AND kind = 'settle' AND due_ms = :due_ms AND repeats > 0;

-- name: forgotten
UPDATE vendor_jobs SET kept_there = 0
WHERE parser = :parser AND vendor_job_id = :vendor_job_id;

-- name: due_polls
SELECT timers.due_ms, jobs.*, coalesce(vendor_jobs.queued_ms, jobs.updated_ms) AS queued_ms
FROM timers JOIN jobs ON jobs.id = timers.job_id
LEFT JOIN vendor_jobs
    ON vendor_jobs.parser = jobs.parser AND vendor_jobs.vendor_job_id = jobs.vendor_job_id
WHERE timers.kind = 'step' AND timers.due_ms <= :now_ms AND jobs.state = 'parse_queued'
ORDER BY timers.due_ms LIMIT :most;

-- name: due_intents
SELECT timers.due_ms, jobs.*, attempts.intent_ms, attempts.intent_parser, 0 AS booked
FROM timers JOIN jobs ON jobs.id = timers.job_id
JOIN attempts
    ON attempts.job_id = jobs.id AND attempts.attempt = jobs.attempt AND attempts.stage = 'parse'
WHERE timers.kind = 'step' AND timers.due_ms <= :now_ms
AND jobs.state IN ('uploaded', 'parsing')
AND attempts.intent_ms IS NOT NULL AND attempts.ended_ms IS NULL
AND attempts.deadline_ms <= :now_ms
ORDER BY timers.due_ms LIMIT :most;

-- name: left_intents
-- Of attempts that their jobs wait for no more: what they may have created runs for nobody.
SELECT
    attempts.deadline_ms AS due_ms, attempts.attempt AS intent_attempt, attempts.intent_ms,
    attempts.intent_parser, jobs.*,
    EXISTS (
        SELECT 1 FROM vendor_jobs
        WHERE vendor_jobs.job_id = jobs.id AND vendor_jobs.attempt = attempts.attempt) AS booked
FROM attempts JOIN jobs ON jobs.id = attempts.job_id
WHERE attempts.intent_ms IS NOT NULL AND attempts.ended_ms IS NULL
AND attempts.deadline_ms <= :now_ms AND attempts.stage = 'parse'
AND (jobs.attempt != attempts.attempt OR jobs.state NOT IN ('uploaded', 'parsing'))
ORDER BY attempts.deadline_ms LIMIT :most;

-- name: since_asked
-- Whether the job there is known, and whether its own job was moved or is about to be.
SELECT
    EXISTS (
        SELECT 1 FROM vendor_jobs
        WHERE vendor_jobs.job_id = jobs.id AND vendor_jobs.attempt = :attempt) AS booked,
    (jobs.state != :state OR jobs.attempt != :job_attempt OR EXISTS (
        SELECT 1 FROM outbox
        WHERE outbox.topic = 'jobs.events' AND outbox.key = jobs.id)) AS moving
FROM jobs WHERE jobs.id = :job_id;

-- name: put_off_intent
UPDATE attempts SET deadline_ms = :next_ms
WHERE job_id = :job_id AND attempt = :attempt AND stage = 'parse' AND deadline_ms = :due_ms
AND intent_ms IS NOT NULL AND ended_ms IS NULL;

-- name: strike_intent
UPDATE attempts SET intent_ms = NULL
WHERE job_id = :job_id AND attempt = :attempt AND stage = 'parse';

-- name: due_settles
SELECT timers.due_ms, timers.repeats, jobs.id, jobs.state, jobs.vendor_job_id
FROM timers JOIN jobs ON jobs.id = timers.job_id
WHERE timers.kind = 'settle' AND timers.due_ms <= :now_ms
ORDER BY timers.due_ms LIMIT :most;
