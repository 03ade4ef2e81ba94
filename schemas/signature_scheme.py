"""Signature schemes: how vendors sign their webhooks, as data.

Everything is HMAC-SHA256 over bytes. Sources: Standard Webhooks 1.0 (`webhook-signature: v1,...`),
LlamaCloud (`LC-Signature: sha256=<hex>`).
"""

import base64
import re
from dataclasses import dataclass, field
from functools import lru_cache, partial
from string import Formatter
from typing import Literal

Encoding = Literal["hex", "hex-upper", "base64"]
KeyEncoding = Literal["utf-8", "base64", "hex"]

_FIELDS = frozenset({"body", "id", "timestamp"})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


@lru_cache(256)
def parts_of(template: str) -> tuple[tuple[bytes, str], ...]:
    """Split a template into literals, each with the field after it; `?` for what is no field."""
    return tuple(
        (literal.encode(), "?" if spec or conversion else field or ("" if field is None else "?"))
        for literal, field, spec, conversion in Formatter().parse(template)
    )


def fields_of(template: str) -> list[str]:
    """Name the fields of a template."""
    return [field for _, field in parts_of(template) if field]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a vendor signs; raise ValueError for one that cannot be, or proves nothing.

    `template` is what is signed, made of `{body}`, `{id}` and `{timestamp}`. A signature follows
    one of `prefixes`. With `separator` the header holds several items: signatures, and, under
    `timestamp_prefix`, the time. Times are unix seconds.
    """

    name: str
    header: str
    encoding: Encoding = "hex"
    prefixes: tuple[str, ...] = ("",)
    template: str = "{body}"
    separator: str = ""
    id_header: str = ""
    timestamp_header: str = ""
    timestamp_prefix: str = ""
    tolerance_seconds: float = 300.0
    key_prefix: str = ""
    key_encoding: KeyEncoding = "utf-8"
    timed: bool = field(init=False, compare=False)
    """Whether the signature is good for a while only."""
    signs_id: bool = field(init=False, compare=False)
    """Whether the event's id is signed too."""
    header_key: str = field(init=False, repr=False, compare=False)
    """The header's name in lower case."""
    prefix_bytes: tuple[bytes, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fix = partial(object.__setattr__, self)
        fix("timed", bool(self.timestamp_header or self.timestamp_prefix))
        fix("signs_id", "id" in fields_of(self.template))
        fix("header_key", self.header.lower())
        fix("prefix_bytes", tuple(prefix.encode() for prefix in self.prefixes))
        for header in (self.header, self.id_header or "x", self.timestamp_header or "x"):
            if _TOKEN.fullmatch(header) is None:
                raise ValueError(f"{header[:100]!r} is no header's name")
        for text in (*self.prefixes, self.separator, self.timestamp_prefix, self.template):
            if not text.isascii():
                raise ValueError(f"{text[:100]!r} is not ASCII")
        if not self.prefixes:
            raise ValueError("prefixes must not be empty; '' stands for none")
        self._check_template()
        if self.timestamp_prefix and not self.separator:
            raise ValueError("timestamp_prefix needs a separator")
        if self.timed and not self.tolerance_seconds > 0:
            raise ValueError("tolerance_seconds must be more than 0")

    def headers(self) -> frozenset[str]:
        """Name the headers that a verification reads, in lower case."""
        names = (self.header, self.id_header, self.timestamp_header)
        return frozenset(name.lower() for name in names if name)

    def key_of(self, secret: str) -> bytes:
        """Read a secret as the vendor hands it out; raise ValueError, without it, for a broken one.

        As `whsec_` and base64 in Standard Webhooks; the prefix may be missing.
        """
        text = secret.removeprefix(self.key_prefix)
        try:
            if self.key_encoding == "base64":
                key = base64.b64decode(text, validate=True)
            else:
                key = bytes.fromhex(text) if self.key_encoding == "hex" else text.encode()
        except ValueError:
            raise ValueError(f"the secret is not {self.key_encoding}") from None
        if not key:
            raise ValueError("the secret is empty")
        return key

    def _check_template(self) -> None:
        fields = set(fields_of(self.template))
        if not fields <= _FIELDS or "body" not in fields:
            raise ValueError(f"template {self.template!r}: {{body}}, and {{id}} and {{timestamp}}")
        if self.signs_id and not self.id_header:
            raise ValueError("a template with {id} needs id_header")
        if ("timestamp" in fields) != self.timed:
            # A time that is not signed can be replaced by whoever repeats the request.
            raise ValueError("{timestamp} in the template goes with a timestamp header or prefix")


LC_SIGNATURE = Scheme("lc-signature", "LC-Signature", prefixes=("sha256=",))
X_WEBHOOK_SIGNATURE = Scheme("x-webhook-signature", "X-Webhook-Signature", prefixes=("sha256=", ""))
STANDARD_WEBHOOKS = Scheme(
    "standard-webhooks",
    "webhook-signature",
    encoding="base64",
    prefixes=("v1,",),
    template="{id}.{timestamp}.{body}",
    separator=" ",
    id_header="webhook-id",
    timestamp_header="webhook-timestamp",
    key_prefix="whsec_",
    key_encoding="base64",
)
SCHEMES = {s.name: s for s in (LC_SIGNATURE, X_WEBHOOK_SIGNATURE, STANDARD_WEBHOOKS)}
"""The schemes that a source can name."""
