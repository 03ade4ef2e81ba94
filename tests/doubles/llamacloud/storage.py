"""What the double keeps beside its jobs: uploaded files, presigned bytes, waiting plans."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.doubles.llamacloud.content import Plan, extension
from tests.doubles.llamacloud.jobs import iso


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the Files API."""

    id: str
    name: str
    project_id: str
    purpose: str
    external_file_id: str | None
    content: bytes
    created_at: float

    def view(self) -> dict[str, Any]:
        """Give it as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "project_id": self.project_id,
            "file_type": extension(self.name).lstrip(".") or None,
            "external_file_id": self.external_file_id,
            "purpose": self.purpose,
            "last_modified_at": iso(self.created_at),
            "expires_at": None,
            "download_url": None,
        }


@dataclass(frozen=True, slots=True)
class Presigned:
    """Bytes that whoever knows the URL may fetch for a while."""

    content: bytes
    content_type: str
    expires_at: float


Suits = Callable[[str, bytes, dict[str, Any]], bool]
"""Tells by name, bytes and options whether a plan is for a job."""


@dataclass(slots=True)
class PlanCard:
    """A plan waiting for jobs."""

    plan: Plan
    times: int | None
    suits: Suits | None


class Plans:
    """The plans that are waiting, in order; the first that suits is taken."""

    def __init__(self) -> None:
        self._cards: list[PlanCard] = []

    def add(self, card: PlanCard) -> None:
        """Let a plan wait for its jobs."""
        self._cards.append(card)

    def take(self, name: str, content: bytes, options: dict[str, Any]) -> Plan:
        """Give what shall become of a job; an empty plan where none is waiting for it."""
        for card in self._cards:
            if card.times != 0 and (card.suits is None or card.suits(name, content, options)):
                if card.times is not None:
                    card.times -= 1
                return card.plan
        return Plan()
