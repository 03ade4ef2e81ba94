-- Submissions on the bus, and what they were answered.

-- name: answer_of
SELECT job_id, answer, answered_ms FROM submissions
WHERE tenant = :tenant AND submission_id = :submission_id;

-- name: remember
INSERT INTO submissions (tenant, submission_id, job_id, answer, answered_ms)
VALUES (:tenant, :submission_id, :job_id, :answer, :now_ms)
ON CONFLICT (tenant, submission_id) DO NOTHING;
