"""Requests that are signed: by every scheme, by others' packages, and with one key."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from schemas.signature_scheme import SCHEMES, Scheme
from schemas.signatures import Headers, sign

KEY = b"a secret of this test"
BODY = b'{"event_id":"e1","event_type":"parse.success","data":{"id":"pjb-1"}}'
NOW = 1_795_000_000

STRIPE = Scheme(
    "stripe",
    "Stripe-Signature",
    prefixes=("v1=",),
    template="{timestamp}.{body}",
    separator=",",
    timestamp_prefix="t=",
)
SLACK = Scheme(
    "slack",
    "X-Slack-Signature",
    prefixes=("v0=",),
    template="v0:{timestamp}:{body}",
    timestamp_header="X-Slack-Request-Timestamp",
)
ALL = (*SCHEMES.values(), STRIPE, SLACK)


def hexed(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).hexdigest().encode()


def signed(scheme: Scheme, *, key: bytes = KEY, body: bytes = BODY, at: int = NOW) -> Headers:
    given = sign(scheme, key, body, event_id="msg_1", unix_seconds=at)
    return [(name.lower(), value.encode()) for name, value in given]


def official(content: str, at: int, event_id: str = "msg_1") -> tuple[str, Headers]:
    """Sign as the vendor of the standard does; give the secret too."""
    secret = "whsec_" + base64.b64encode(KEY).decode()
    signature = Webhook(secret).sign(event_id, datetime.fromtimestamp(at, UTC), content)
    return secret, [
        ("webhook-id", event_id.encode()),
        ("webhook-timestamp", str(at).encode()),
        ("webhook-signature", signature.encode()),
    ]
