-- Attempts: who works on what, and until when that holds.

-- name: claim
INSERT INTO attempts (job_id, attempt, stage, owner, claimed_ms, deadline_ms)
SELECT id, attempt, :stage, :owner, :now_ms, :now_ms + :lease_ms FROM jobs
WHERE id = :job_id AND attempt = :attempt AND state = 'uploaded'
ON CONFLICT (job_id, attempt, stage) DO NOTHING;

-- name: renew
UPDATE attempts SET deadline_ms = :now_ms + :lease_ms
WHERE owner = :owner AND ended_ms IS NULL
AND job_id IN (SELECT value FROM json_each(:job_ids))
AND EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.id = attempts.job_id AND jobs.attempt = attempts.attempt
    AND jobs.state IN ('uploaded', 'parsing', 'parse_queued'))
RETURNING job_id, attempt, stage;

-- name: intend
UPDATE attempts SET
    intent_ms = :now_ms, intent_parser = :parser, deadline_ms = :now_ms + :lease_ms
WHERE job_id = :job_id AND attempt = :attempt AND stage = :stage AND owner = :owner
AND ended_ms IS NULL
AND EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.id = attempts.job_id AND jobs.attempt = attempts.attempt
    AND jobs.state IN ('uploaded', 'parsing'));

-- name: end
UPDATE attempts SET ended_ms = :now_ms
WHERE job_id = :job_id AND attempt = :attempt AND stage = :stage AND owner = :owner
AND ended_ms IS NULL
AND EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.id = attempts.job_id AND jobs.attempt = attempts.attempt
    AND jobs.state IN ('uploaded', 'parsing', 'parse_queued'));

-- name: of_job
SELECT * FROM attempts WHERE job_id = :job_id ORDER BY attempt;

-- name: ended_by
SELECT 1 FROM attempts
WHERE job_id = :job_id AND attempt = :attempt AND stage = :stage AND owner = :owner
AND ended_ms IS NOT NULL;
