"""API keys: bearer tokens, kept as hashes, each bound to a tenant."""

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import Code, PermanentError
from schemas.ids import is_tenant, uuid7
from streams.tables.base import Row, Tables

PREFIX = "pw_"
_SECRET_BYTES = 24


class Role(StrEnum):
    """Whose key it is: an operator's shows the deployment too, beside its tenant's jobs."""

    TENANT = "tenant"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is known to the gateway."""

    id: str
    tenant: str
    name: str
    role: Role = Role.TENANT


async def create_key(
    tables: Tables, tenant: str, name: str, role: Role = Role.TENANT
) -> tuple[Key, str]:
    """Make a key and give its token, which is shown this once and kept nowhere."""
    if not is_tenant(tenant):
        raise PermanentError(
            Code.INVALID_REQUEST,
            f"{tenant!r} cannot name a tenant: "
            "1 to 63 of a-z, 0-9, '-' and '_', the first a letter or digit",
        )
    key = Key(uuid7(), tenant, name, role)
    token = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    await tables.write(
        lambda tx: tx.run(
            "keys.insert",
            id=key.id,
            tenant=tenant,
            name=name,
            role=role.value,
            secret_sha256=hash_token(token),
        )
    )
    return key, token


async def find_key(tables: Tables, token: str) -> Key | None:
    """Give the key of a token, unless there is none or it was revoked."""
    row = await tables.read(lambda tx: tx.one("keys.by_secret", secret_sha256=hash_token(token)))
    return Key(row["id"], row["tenant"], row["name"], Role(row["role"])) if row else None


async def list_keys(tables: Tables) -> list[Row]:
    """Give every key, the revoked ones too, without their secrets."""
    return await tables.read(lambda tx: tx.all("keys.list"))


async def revoke_key(tables: Tables, key_id: str) -> bool:
    """Revoke a key, and tell whether it was there and in use."""
    return await tables.write(lambda tx: tx.run("keys.revoke", id=key_id)) == 1


def hash_token(token: str) -> str:
    """Hash a token: 192 random bits need no slow hash and no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
