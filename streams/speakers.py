"""Speakers: which tenants the producers of a topic may speak for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from schemas.errors import Code, PermanentError
from schemas.ids import is_tenant
from schemas.topics import DOCUMENTS_SUBMITTED, TOPICS, Topic

ALL_TENANTS = "*"

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,150}")
_TAKEN = {topic.name for topic in TOPICS} - {DOCUMENTS_SUBMITTED.name}


@dataclass(frozen=True, slots=True)
class Speakers:
    """Topic to tenants; what is not named here may speak for nobody."""

    tenants: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def topics(self) -> tuple[Topic, ...]:
        """Give the topics on which documents are submitted."""
        return tuple(replace(DOCUMENTS_SUBMITTED, name=name) for name in self.tenants)

    def may_speak(self, topic: str, tenant: str) -> bool:
        """Tell whether the producers of a topic may speak for a tenant."""
        return not self.tenants.get(topic, frozenset()).isdisjoint((tenant, ALL_TENANTS))

    def tenant_of(self, topic: str, claimed: str | None) -> str:
        """Give the tenant that a record of `topic` is for; raise PermanentError(FORBIDDEN)."""
        allowed = self.tenants.get(topic, frozenset())
        if claimed is None:
            if len(allowed) == 1 and ALL_TENANTS not in allowed:
                return next(iter(allowed))
            raise _forbidden(f"a record of {topic} must say whose it is: pw-tenant, or tenant")
        if not self.may_speak(topic, claimed):
            raise _forbidden(
                f"{topic} may not speak for the tenant {claimed}: ask the operator "
                "(PARSEWIRE_INTAKE)"
            )
        return claimed


def read_speakers(text: str) -> Speakers:
    """Read `topic:tenant|tenant,topic:*`; raise ValueError that says what is right."""
    found: dict[str, frozenset[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        topic, _, names = part.partition(":")
        topic = topic.strip()
        tenants = frozenset(name.strip() for name in names.split("|"))
        wrong = sorted(name for name in tenants if name != ALL_TENANTS and not is_tenant(name))
        if wrong or not _TOPIC.fullmatch(topic):
            raise ValueError(
                f"{part!r} is not `topic:tenant|tenant`, as in documents.submitted:acme|globex, "
                "or `topic:*` for every tenant"
            )
        if topic in _TAKEN:
            raise ValueError(f"{topic} carries Parsewire's own events: name another topic")
        if topic in found:
            raise ValueError(f"{topic} is named twice")
        found[topic] = tenants
    return Speakers(found)


def _forbidden(message: str) -> PermanentError:
    return PermanentError(Code.FORBIDDEN, message)
