-- Reports on money: sums of days, of jobs, and what holds at present. A NULL tenant is all of them.

-- name: by_day
SELECT day AS name, sum(spent_micro_usd) AS spent_micro_usd, sum(spent_pages) AS spent_pages,
    sum(spent_requests) AS spent_requests, sum(estimated_micro_usd) AS estimated_micro_usd,
    sum(settled_micro_usd) AS settled_micro_usd
FROM cost_days
WHERE day >= :since AND day <= :until AND (:tenant IS NULL OR tenant = :tenant)
GROUP BY name ORDER BY name;

-- name: by_service
SELECT service AS name, sum(spent_micro_usd) AS spent_micro_usd, sum(spent_pages) AS spent_pages,
    sum(spent_requests) AS spent_requests, sum(estimated_micro_usd) AS estimated_micro_usd,
    sum(settled_micro_usd) AS settled_micro_usd
FROM cost_days
WHERE day >= :since AND day <= :until AND (:tenant IS NULL OR tenant = :tenant)
GROUP BY name ORDER BY name;

-- name: by_tenant
SELECT tenant AS name, sum(spent_micro_usd) AS spent_micro_usd, sum(spent_pages) AS spent_pages,
    sum(spent_requests) AS spent_requests, sum(estimated_micro_usd) AS estimated_micro_usd,
    sum(settled_micro_usd) AS settled_micro_usd
FROM cost_days
WHERE day >= :since AND day <= :until AND (:tenant IS NULL OR tenant = :tenant)
GROUP BY name ORDER BY name;

-- name: by_tier
SELECT tier AS name, sum(spent_micro_usd) AS spent_micro_usd, sum(spent_pages) AS spent_pages,
    sum(spent_requests) AS spent_requests, sum(estimated_micro_usd) AS estimated_micro_usd,
    sum(settled_micro_usd) AS settled_micro_usd
FROM cost_days
WHERE day >= :since AND day <= :until AND (:tenant IS NULL OR tenant = :tenant)
GROUP BY name ORDER BY name;

-- name: by_job
-- The newest jobs first, so that a page reads its own lines alone: ids are of their time.
SELECT job_id AS name, sum(spent_micro_usd) AS spent_micro_usd, sum(spent_pages) AS spent_pages,
    sum(spent_requests) AS spent_requests,
    -sum(CASE WHEN kind = 'settled' THEN reserved_micro_usd ELSE 0 END) AS estimated_micro_usd,
    sum(CASE WHEN kind = 'settled' AND reserved_micro_usd < 0 THEN spent_micro_usd
        ELSE 0 END) AS settled_micro_usd
FROM cost_ledger
WHERE job_id < :before AND (kind = 'settled' OR kind = 'corrected')
AND day >= :since AND day <= :until AND (:tenant IS NULL OR tenant = :tenant)
GROUP BY job_id ORDER BY job_id DESC LIMIT :most;

-- name: total
SELECT coalesce(sum(spent_micro_usd), 0) AS micro_usd, coalesce(sum(spent_pages), 0) AS pages,
    coalesce(sum(spent_requests), 0) AS requests
FROM cost_days
WHERE day >= :since AND day <= :until AND (:tenant IS NULL OR tenant = :tenant);

-- name: held
-- Of what was reserved from a moment on; the open reservations alone are looked at.
SELECT coalesce(sum(micro_usd), 0) AS micro_usd, coalesce(sum(pages), 0) AS pages,
    count(*) AS requests
FROM reservations
WHERE state = 'reserved' AND reserved_ms >= :since_ms AND (:tenant IS NULL OR tenant = :tenant);

-- name: steps
-- When somebody looks at each of these jobs next.
SELECT job_id, due_ms FROM timers
WHERE kind = 'step' AND job_id IN (SELECT value FROM json_each(:job_ids));

-- name: spent_by_service
-- Since ever, and apart from it how well the estimates of some days hit.
SELECT service, sum(spent_micro_usd) AS spent_micro_usd,
    sum(CASE WHEN day >= :since THEN estimated_micro_usd ELSE 0 END) AS estimated_micro_usd,
    sum(CASE WHEN day >= :since THEN settled_micro_usd ELSE 0 END) AS settled_micro_usd
FROM cost_days GROUP BY service;

-- name: held_by_service
SELECT service, sum(micro_usd) AS micro_usd FROM reservations
WHERE state = 'reserved' GROUP BY service;

-- name: recent
-- What was spent since a moment of the last hours, by whom and where.
SELECT tenant, service, sum(spent_micro_usd) AS micro_usd FROM cost_ledger
WHERE booked_ms > :since_ms GROUP BY tenant, service;
