-- API keys.

-- name: insert
INSERT INTO keys (id, tenant, name, role, secret_sha256, created_ms)
VALUES (:id, :tenant, :name, :role, :secret_sha256, :now_ms);

-- name: by_secret
SELECT id, tenant, name, role FROM keys WHERE secret_sha256 = :secret_sha256 AND revoked_ms IS NULL;

-- name: list
SELECT id, tenant, name, role, created_ms, revoked_ms FROM keys ORDER BY created_ms;

-- name: revoke
UPDATE keys SET revoked_ms = :now_ms WHERE id = :id AND revoked_ms IS NULL;
