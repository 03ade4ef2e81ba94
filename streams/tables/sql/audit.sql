-- The audit of money: each statement gives what is wrong, and nothing where all is right.
-- What is still in the outbox has not been counted yet, and is no fault.

-- name: windows
-- Each window against the ledger and the open reservations of its time; a tenant's against its own
-- lines, since there may be thousands of tenants.
WITH spent AS (
    SELECT windows.budget_id, windows.start_ms,
        sum(lines.spent_micro_usd) AS micro_usd, sum(lines.spent_pages) AS pages,
        sum(lines.spent_requests) AS requests
    FROM budget_windows AS windows
    JOIN cost_ledger AS lines
        ON lines.booked_ms >= windows.start_ms AND lines.booked_ms < windows.end_ms
    WHERE windows.scope = 'deployment' GROUP BY windows.budget_id, windows.start_ms
    UNION ALL
    SELECT windows.budget_id, windows.start_ms,
        sum(lines.spent_micro_usd), sum(lines.spent_pages),
        sum(lines.spent_requests)
    FROM budget_windows AS windows
    JOIN cost_ledger AS lines
        ON lines.tenant = windows.subject
        AND lines.booked_ms >= windows.start_ms AND lines.booked_ms < windows.end_ms
    WHERE windows.scope = 'tenant' GROUP BY windows.budget_id, windows.start_ms
    UNION ALL
    SELECT windows.budget_id, windows.start_ms,
        sum(lines.spent_micro_usd), sum(lines.spent_pages),
        sum(lines.spent_requests)
    FROM budget_windows AS windows
    JOIN cost_ledger AS lines
        ON lines.service = windows.subject
        AND lines.booked_ms >= windows.start_ms AND lines.booked_ms < windows.end_ms
    WHERE windows.scope = 'service' GROUP BY windows.budget_id, windows.start_ms),
held AS (
    SELECT windows.budget_id, windows.start_ms,
        sum(micro_usd) AS micro_usd, sum(pages) AS pages, count(*) AS requests
    FROM budget_windows AS windows
    JOIN reservations ON state = 'reserved' AND reserved_ms >= windows.start_ms
        AND reserved_ms < windows.end_ms
    WHERE windows.scope = 'deployment' OR (windows.scope = 'tenant' AND tenant = windows.subject)
    OR (windows.scope = 'service' AND service = windows.subject)
    GROUP BY windows.budget_id, windows.start_ms)
SELECT windows.*,
    coalesce(spent.micro_usd, 0) AS true_spent_micro_usd,
    coalesce(spent.pages, 0) AS true_spent_pages,
    coalesce(spent.requests, 0) AS true_spent_requests,
    coalesce(held.micro_usd, 0) AS true_reserved_micro_usd,
    coalesce(held.pages, 0) AS true_reserved_pages,
    coalesce(held.requests, 0) AS true_reserved_requests
FROM budget_windows AS windows
LEFT JOIN spent USING (budget_id, start_ms)
LEFT JOIN held USING (budget_id, start_ms)
WHERE (windows.spent_micro_usd, windows.spent_pages, windows.spent_requests,
        windows.reserved_micro_usd, windows.reserved_pages, windows.reserved_requests) !=
    (coalesce(spent.micro_usd, 0), coalesce(spent.pages, 0), coalesce(spent.requests, 0),
        coalesce(held.micro_usd, 0), coalesce(held.pages, 0), coalesce(held.requests, 0))
ORDER BY windows.budget_id, windows.start_ms LIMIT :most;

-- name: days
-- The kept sums of the days against the ledger's; what was held for a settled line is its
-- estimate, and the first settled line of an attempt ended its reservation.
WITH lines AS (
    SELECT day, tenant, service, coalesce(tier, '') AS tier, spent_micro_usd, spent_pages,
        spent_requests,
        CASE WHEN kind = 'settled' THEN -reserved_micro_usd ELSE 0 END AS estimated_micro_usd,
        CASE WHEN kind = 'settled' AND seq = (
            SELECT min(first.seq) FROM cost_ledger AS first
            JOIN reservations USING (job_id, attempt)
            WHERE first.job_id = line.job_id AND first.attempt = line.attempt
            AND first.kind = 'settled' AND reservations.state = 'settled')
            THEN spent_micro_usd ELSE 0 END AS settled_micro_usd
    FROM cost_ledger AS line WHERE kind = 'settled' OR kind = 'corrected'
    UNION ALL
    SELECT day, tenant, service, tier, -spent_micro_usd, -spent_pages, -spent_requests,
        -estimated_micro_usd, -settled_micro_usd
    FROM cost_days)
SELECT day, tenant, service, tier,
    -sum(spent_micro_usd) AS spent_micro_usd, -sum(spent_pages) AS spent_pages,
    -sum(spent_requests) AS spent_requests, -sum(estimated_micro_usd) AS estimated_micro_usd,
    -sum(settled_micro_usd) AS settled_micro_usd
FROM lines GROUP BY day, tenant, service, tier
HAVING sum(spent_micro_usd) != 0 OR sum(spent_pages) != 0 OR sum(spent_requests) != 0
OR sum(estimated_micro_usd) != 0 OR sum(settled_micro_usd) != 0
ORDER BY day, tenant, service, tier LIMIT :most;

-- name: reservations
-- Each reservation against the lines of its attempt: held once, and given back once by the line
-- that its state names. A line that gave nothing back ended it only where nothing was held.
WITH lines AS (
    SELECT job_id, attempt,
        sum(kind = 'reserved') AS holds,
        sum(CASE WHEN kind = 'reserved' THEN reserved_micro_usd ELSE 0 END) AS held_micro_usd,
        -sum(CASE WHEN kind != 'reserved' THEN reserved_micro_usd ELSE 0 END) AS back_micro_usd,
        sum(kind != 'reserved' AND reserved_micro_usd != 0) AS backs,
        sum(kind = 'settled') AS settled, sum(kind = 'released') AS released,
        min(CASE WHEN reserved_micro_usd < 0 THEN kind END) AS ended_by
    FROM cost_ledger GROUP BY job_id, attempt),
coming AS (
    SELECT json_extract(CAST(value AS TEXT), '$.job_id') AS job_id,
        json_extract(CAST(value AS TEXT), '$.attempt') AS attempt
    FROM outbox WHERE topic = 'costs.events')
SELECT held.*,
    coalesce(lines.holds, 0) AS holds, coalesce(lines.held_micro_usd, 0) AS held_micro_usd,
    coalesce(lines.backs, 0) AS backs, coalesce(lines.back_micro_usd, 0) AS back_micro_usd,
    lines.ended_by
FROM reservations AS held
LEFT JOIN lines USING (job_id, attempt)
WHERE (
    (coalesce(lines.holds, 0), coalesce(lines.held_micro_usd, 0)) != (1, held.micro_usd)
    OR (held.state = 'reserved'
        AND coalesce(lines.settled + lines.released, 0) != 0)
    OR (held.state != 'reserved' AND (
        coalesce(lines.back_micro_usd, 0) != held.micro_usd
        OR coalesce(lines.backs, 0) != (held.micro_usd != 0)
        OR coalesce(lines.ended_by, held.state) != held.state
        OR (held.state = 'settled' AND coalesce(lines.settled, 0) = 0)
        OR (held.state = 'released' AND coalesce(lines.released, 0) = 0))))
AND (held.job_id, held.attempt) NOT IN (SELECT job_id, attempt FROM coming)
ORDER BY held.job_id, held.attempt LIMIT :most;

-- name: left
-- Open reservations that nobody will end: the attempt is over, no job elsewhere can bill for it
-- any more, and neither its end nor its bill is on its way.
SELECT held.* FROM reservations AS held
LEFT JOIN attempts
    ON attempts.job_id = held.job_id AND attempts.attempt = held.attempt
    AND attempts.stage = 'parse'
WHERE held.state = 'reserved' AND held.reserved_ms <= :before_ms
AND (attempts.intent_ms IS NULL OR attempts.ended_ms <= :before_ms)
AND NOT EXISTS (
    SELECT 1 FROM vendor_jobs
    WHERE vendor_jobs.job_id = held.job_id AND vendor_jobs.attempt = held.attempt
    AND (vendor_jobs.settled_ms IS NULL OR vendor_jobs.settled_ms > :before_ms))
AND (held.job_id, held.attempt) NOT IN (
    SELECT json_extract(CAST(value AS TEXT), '$.job_id'),
        json_extract(CAST(value AS TEXT), '$.attempt')
    FROM outbox WHERE topic = 'costs.events')
AND held.job_id NOT IN (SELECT key FROM outbox WHERE topic = 'jobs.events')
ORDER BY held.reserved_ms, held.job_id LIMIT :most;

-- name: bills
-- Each settled job elsewhere against its lines, and against its credits at the price that was
-- held for: half a micro-dollar is what rounding may make of it. A parser that sends no bills
-- costs what was held for it, for no credits.
WITH lines AS (
    SELECT service, vendor_job_id, sum(spent_micro_usd) AS micro_usd
    FROM cost_ledger WHERE vendor_job_id IS NOT NULL GROUP BY service, vendor_job_id)
SELECT seen.*, held.micro_usd_per_kilocredit,
    coalesce(lines.micro_usd, 0) AS booked_micro_usd
FROM vendor_jobs AS seen
LEFT JOIN lines ON lines.service = seen.parser AND lines.vendor_job_id = seen.vendor_job_id
LEFT JOIN reservations AS held ON held.job_id = seen.job_id AND held.attempt = seen.attempt
WHERE seen.settled_ms IS NOT NULL AND seen.micro_usd IS NOT NULL
AND (
    coalesce(lines.micro_usd, 0) != seen.micro_usd
    OR (seen.outcome = 'billed' AND held.micro_usd_per_kilocredit IS NOT NULL
        AND abs(seen.credits * held.micro_usd_per_kilocredit / 1000.0 - seen.micro_usd) > 0.501
        AND (seen.credits != 0 OR seen.micro_usd != held.micro_usd)))
AND (seen.job_id, seen.attempt) NOT IN (
    SELECT json_extract(CAST(value AS TEXT), '$.job_id'),
        json_extract(CAST(value AS TEXT), '$.attempt')
    FROM outbox WHERE topic = 'costs.events')
ORDER BY seen.parser, seen.vendor_job_id LIMIT :most;

-- name: unreserved
-- Money that was spent for attempts that held none, since money is held at all.
WITH begun AS (SELECT service, min(reserved_ms) AS first_ms FROM reservations GROUP BY service)
SELECT lines.job_id, lines.attempt, lines.service, sum(lines.spent_micro_usd) AS micro_usd
FROM cost_ledger AS lines
JOIN begun ON begun.service = lines.service AND lines.booked_ms >= begun.first_ms
WHERE lines.spent_micro_usd > 0
AND NOT EXISTS (
    SELECT 1 FROM reservations
    WHERE reservations.job_id = lines.job_id AND reservations.attempt = lines.attempt)
GROUP BY lines.job_id, lines.attempt, lines.service
ORDER BY lines.job_id, lines.attempt LIMIT :most;
