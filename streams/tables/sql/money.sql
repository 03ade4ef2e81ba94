-- Money: budgets with their windows, reservations, the ledger and its sums.
-- A budget holds for a tenant and a service when it is the deployment's, or names either.

-- name: standing
SELECT budgets.*,
    spans.start_ms, spans.end_ms, windows.budget_id IS NOT NULL AS opened,
    coalesce(windows.reserved_micro_usd, 0) AS reserved_micro_usd,
    coalesce(windows.reserved_pages, 0) AS reserved_pages,
    coalesce(windows.reserved_requests, 0) AS reserved_requests,
    coalesce(windows.spent_micro_usd, 0) AS spent_micro_usd,
    coalesce(windows.spent_pages, 0) AS spent_pages,
    coalesce(windows.spent_requests, 0) AS spent_requests
FROM budgets
JOIN (
    SELECT 'hour' AS period, :hour_start AS start_ms, :hour_end AS end_ms
    UNION ALL SELECT 'day', :day_start, :day_end
    UNION ALL SELECT 'month', :month_start, :month_end) AS spans ON spans.period = budgets.period
LEFT JOIN budget_windows AS windows
    ON windows.budget_id = budgets.id AND windows.start_ms = spans.start_ms
    AND windows.end_ms = spans.end_ms
WHERE budgets.scope = 'deployment'
OR (budgets.scope = 'tenant' AND (budgets.subject = :tenant OR :tenant IS NULL))
OR (budgets.scope = 'service' AND (budgets.subject = :service OR :service IS NULL))
ORDER BY budgets.id;

-- name: sums_of_deployment
-- What the ledger and the open reservations say of a window: what it begins with, and must be.
-- One statement a scope: each reads the lines of its own subject alone.
SELECT * FROM (
    SELECT coalesce(sum(micro_usd), 0) AS reserved_micro_usd,
        coalesce(sum(pages), 0) AS reserved_pages, count(*) AS reserved_requests
    FROM reservations
    WHERE state = 'reserved' AND reserved_ms >= :start_ms AND reserved_ms < :end_ms),
(
    SELECT coalesce(sum(spent_micro_usd), 0) AS spent_micro_usd,
        coalesce(sum(spent_pages), 0) AS spent_pages,
        coalesce(sum(spent_requests), 0) AS spent_requests
    FROM cost_ledger WHERE booked_ms >= :start_ms AND booked_ms < :end_ms);

-- name: sums_of_tenant
SELECT * FROM (
    SELECT coalesce(sum(micro_usd), 0) AS reserved_micro_usd,
        coalesce(sum(pages), 0) AS reserved_pages, count(*) AS reserved_requests
    FROM reservations
    WHERE state = 'reserved' AND reserved_ms >= :start_ms AND reserved_ms < :end_ms
    AND tenant = :subject),
(
    SELECT coalesce(sum(spent_micro_usd), 0) AS spent_micro_usd,
        coalesce(sum(spent_pages), 0) AS spent_pages,
        coalesce(sum(spent_requests), 0) AS spent_requests
    FROM cost_ledger WHERE booked_ms >= :start_ms AND booked_ms < :end_ms AND tenant = :subject);

-- name: sums_of_service
SELECT * FROM (
    SELECT coalesce(sum(micro_usd), 0) AS reserved_micro_usd,
        coalesce(sum(pages), 0) AS reserved_pages, count(*) AS reserved_requests
    FROM reservations
    WHERE state = 'reserved' AND reserved_ms >= :start_ms AND reserved_ms < :end_ms
    AND service = :subject),
(
    SELECT coalesce(sum(spent_micro_usd), 0) AS spent_micro_usd,
        coalesce(sum(spent_pages), 0) AS spent_pages,
        coalesce(sum(spent_requests), 0) AS spent_requests
    FROM cost_ledger WHERE booked_ms >= :start_ms AND booked_ms < :end_ms AND service = :subject);

-- name: open_window
-- One that a time zone of before opened, with the same start and another end, is summed up anew.
INSERT INTO budget_windows (
    budget_id, start_ms, end_ms, scope, subject, reserved_micro_usd, reserved_pages,
    reserved_requests, spent_micro_usd, spent_pages, spent_requests)
VALUES (
    :budget_id, :start_ms, :end_ms, :scope, :subject, :reserved_micro_usd, :reserved_pages,
    :reserved_requests, :spent_micro_usd, :spent_pages, :spent_requests)
ON CONFLICT (budget_id, start_ms) DO UPDATE SET
    end_ms = excluded.end_ms,
    reserved_micro_usd = excluded.reserved_micro_usd,
    reserved_pages = excluded.reserved_pages,
    reserved_requests = excluded.reserved_requests,
    spent_micro_usd = excluded.spent_micro_usd,
    spent_pages = excluded.spent_pages,
    spent_requests = excluded.spent_requests
WHERE end_ms != excluded.end_ms;

-- name: hold
-- The guard of every hard budget; fewer rows than windows means that one of them is spent.
UPDATE budget_windows SET
    reserved_micro_usd = reserved_micro_usd + :micro_usd,
    reserved_pages = reserved_pages + :pages,
    reserved_requests = reserved_requests + 1
WHERE (budget_id, start_ms) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:windows))
AND EXISTS (
    SELECT 1 FROM budgets WHERE budgets.id = budget_windows.budget_id
    AND (budgets.hard = 0 OR (
        (limit_micro_usd IS NULL
            OR spent_micro_usd + reserved_micro_usd + :micro_usd <= limit_micro_usd)
        AND (limit_pages IS NULL OR spent_pages + reserved_pages + :pages <= limit_pages)
        AND (limit_requests IS NULL
            OR spent_requests + reserved_requests + 1 <= limit_requests))));

-- name: hold_beside
-- The moment's windows in a time zone of before: what ends the reservation ends it there too.
UPDATE budget_windows SET
    reserved_micro_usd = reserved_micro_usd + :micro_usd,
    reserved_pages = reserved_pages + :pages,
    reserved_requests = reserved_requests + 1
WHERE end_ms > :now_ms AND start_ms <= :now_ms
AND (scope = 'deployment' OR (scope = 'tenant' AND subject = :tenant)
    OR (scope = 'service' AND subject = :service))
AND (budget_id, start_ms) NOT IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:windows));

-- name: reserve
INSERT INTO reservations (
    job_id, attempt, tenant, service, tier, pages, micro_usd, micro_usd_per_kilocredit, state,
    reserved_ms)
VALUES (
    :job_id, :attempt, :tenant, :service, :tier, :pages, :micro_usd, :micro_usd_per_kilocredit,
    'reserved', :now_ms);

-- name: reservation
SELECT * FROM reservations WHERE job_id = :job_id AND attempt = :attempt;

-- name: reservations_of
SELECT * FROM reservations WHERE job_id IN (SELECT value FROM json_each(:job_ids));

-- name: end_reservation
UPDATE reservations SET state = :state, ended_ms = :now_ms
WHERE job_id = :job_id AND attempt = :attempt AND state = 'reserved';

-- name: seen_costs
SELECT event_id FROM cost_ledger WHERE event_id IN (SELECT value FROM json_each(:ids));

-- name: said
-- Whether a cost event was said, read yet or not.
SELECT event_id FROM cost_ledger WHERE event_id = :event_id
UNION ALL SELECT event_id FROM outbox WHERE event_id = :event_id;

-- name: write_line
INSERT INTO cost_ledger (
    event_id, kind, job_id, attempt, tenant, service, tier, vendor_job_id, basis,
    reserved_micro_usd, spent_micro_usd, spent_pages, spent_requests, credits, day, booked_ms,
    event_ms, recorded_ms)
VALUES (
    :event_id, :kind, :job_id, :attempt, :tenant, :service, :tier, :vendor_job_id, :basis,
    :reserved_micro_usd, :spent_micro_usd, :spent_pages, :spent_requests, :credits, :day,
    :booked_ms, :event_ms, :now_ms);

-- name: change_windows
UPDATE budget_windows SET
    reserved_micro_usd = reserved_micro_usd + :reserved_micro_usd,
    reserved_pages = reserved_pages + :reserved_pages,
    reserved_requests = reserved_requests + :reserved_requests,
    spent_micro_usd = spent_micro_usd + :spent_micro_usd,
    spent_pages = spent_pages + :spent_pages,
    spent_requests = spent_requests + :spent_requests
WHERE end_ms > :booked_ms AND start_ms <= :booked_ms
AND (scope = 'deployment' OR (scope = 'tenant' AND subject = :tenant)
    OR (scope = 'service' AND subject = :service));

-- name: add_to_day
INSERT INTO cost_days (
    day, tenant, service, tier, spent_micro_usd, spent_pages, spent_requests,
    estimated_micro_usd, settled_micro_usd)
VALUES (
    :day, :tenant, :service, :tier, :spent_micro_usd, :spent_pages, :spent_requests,
    :estimated_micro_usd, :settled_micro_usd)
ON CONFLICT (day, tenant, service, tier) DO UPDATE SET
    spent_micro_usd = spent_micro_usd + excluded.spent_micro_usd,
    spent_pages = spent_pages + excluded.spent_pages,
    spent_requests = spent_requests + excluded.spent_requests,
    estimated_micro_usd = estimated_micro_usd + excluded.estimated_micro_usd,
    settled_micro_usd = settled_micro_usd + excluded.settled_micro_usd;

-- name: costs_of_jobs
-- Of each job: what its attempts were estimated at, what is still held, and what was billed.
SELECT jobs.value AS job_id,
    (SELECT coalesce(sum(micro_usd), 0) FROM reservations
     WHERE job_id = jobs.value) AS estimated_micro_usd,
    (SELECT coalesce(sum(micro_usd), 0) FROM reservations
     WHERE job_id = jobs.value AND state = 'reserved') AS reserved_micro_usd,
    (SELECT coalesce(sum(spent_micro_usd), 0) FROM cost_ledger
     WHERE job_id = jobs.value) AS billed_micro_usd
FROM json_each(:job_ids) AS jobs;

-- name: left_reservations
-- Open ones whose attempt ended before a moment, with no job elsewhere that could bill for them:
-- their end was never written, or never read. An event that is still on its way may yet end them.
SELECT reservations.job_id, reservations.attempt FROM reservations
LEFT JOIN attempts
    ON attempts.job_id = reservations.job_id AND attempts.attempt = reservations.attempt
    AND attempts.stage = 'parse'
WHERE reservations.state = 'reserved' AND reservations.reserved_ms <= :before_ms
AND (attempts.intent_ms IS NULL OR attempts.ended_ms <= :before_ms)
AND NOT EXISTS (
    SELECT 1 FROM vendor_jobs
    WHERE vendor_jobs.job_id = reservations.job_id
    AND vendor_jobs.attempt = reservations.attempt)
AND (reservations.job_id, reservations.attempt) NOT IN (
    SELECT json_extract(CAST(value AS TEXT), '$.job_id'),
        json_extract(CAST(value AS TEXT), '$.attempt')
    FROM outbox WHERE topic = 'costs.events')
AND reservations.job_id NOT IN (SELECT key FROM outbox WHERE topic = 'jobs.events')
ORDER BY reservations.reserved_ms LIMIT :most;

-- name: budget
SELECT * FROM budgets WHERE id = :id;

-- name: set_budget
INSERT INTO budgets (
    id, scope, subject, period, limit_micro_usd, limit_pages, limit_requests, hard, policy,
    changed_ms)
VALUES (
    :id, :scope, :subject, :period, :limit_micro_usd, :limit_pages, :limit_requests, :hard,
    :policy, :now_ms)
ON CONFLICT (id) DO UPDATE SET
    limit_micro_usd = excluded.limit_micro_usd,
    limit_pages = excluded.limit_pages,
    limit_requests = excluded.limit_requests,
    hard = excluded.hard,
    policy = excluded.policy,
    changed_ms = excluded.changed_ms;

-- name: remove_budget
DELETE FROM budgets WHERE id = :id;

-- name: remove_windows
DELETE FROM budget_windows WHERE budget_id = :budget_id;

-- name: wake_waiting
-- Jobs that wait for money are looked at now.
UPDATE timers SET due_ms = :now_ms, set_ms = :now_ms
WHERE kind = 'step' AND job_id IN (
    SELECT timers.job_id FROM timers JOIN jobs ON jobs.id = timers.job_id
    WHERE timers.kind = 'step' AND timers.due_ms > :now_ms AND jobs.state = 'retry_wait'
    AND (jobs.error_code = 'budget_spent' OR jobs.error_code = 'spending_frozen'));

-- name: wake_put_off
-- One that waits for money and was claimed before budgets were changed: it may be served now.
UPDATE timers SET due_ms = :now_ms, set_ms = :now_ms
WHERE kind = 'step' AND job_id = :job_id AND due_ms > :now_ms
AND EXISTS (
    SELECT 1 FROM attempts
    WHERE attempts.job_id = timers.job_id AND attempts.attempt = :attempt
    AND attempts.stage = 'parse' AND attempts.claimed_ms <= :changed_ms);
