"""Speakers: a topic speaks for whom it was allowed to, and for nobody by default."""

import pytest

from schemas.errors import Code, PermanentError
from streams.speakers import read_speakers

TEXT = "documents.submitted:acme|globex, team-a.documents:team-a ,ours:*"


def test_what_is_configured_is_read() -> None:
    speakers = read_speakers(TEXT)
    assert dict(speakers.tenants) == {
        "documents.submitted": frozenset({"acme", "globex"}),
        "team-a.documents": frozenset({"team-a"}),
        "ours": frozenset({"*"}),
    }
    assert [(t.name, t.partitions, t.stamped_on_arrival) for t in speakers.topics()] == [
        ("documents.submitted", 12, True),
        ("team-a.documents", 12, True),
        ("ours", 12, True),
    ]
    assert read_speakers("").topics() == ()


@pytest.mark.parametrize(
    ("topic", "claimed", "tenant"),
    [
        ("documents.submitted", "globex", "globex"),
        ("team-a.documents", "team-a", "team-a"),
        ("team-a.documents", None, "team-a"),
        ("ours", "anybody", "anybody"),
    ],
)
def test_a_topic_speaks_for_whom_it_may(topic: str, claimed: str | None, tenant: str) -> None:
    assert read_speakers(TEXT).tenant_of(topic, claimed) == tenant


@pytest.mark.parametrize(
    ("topic", "claimed", "says"),
    [
        ("documents.submitted", None, "must say whose it is"),
        ("documents.submitted", "team-a", "may not speak for the tenant team-a"),
        ("team-a.documents", "acme", "may not speak for the tenant acme"),
        ("ours", None, "must say whose it is"),
        ("elsewhere", "acme", "may not speak for the tenant acme"),
        ("elsewhere", None, "must say whose it is"),
    ],
)
def test_whoever_is_not_named_is_forbidden(topic: str, claimed: str | None, says: str) -> None:
    with pytest.raises(PermanentError, match=says) as caught:
        read_speakers(TEXT).tenant_of(topic, claimed)
    assert caught.value.code is Code.FORBIDDEN


@pytest.mark.parametrize(
    "text",
    [
        "documents.submitted",
        "documents.submitted:",
        "documents.submitted:Acme",
        "documents.submitted:acme|",
        ":acme",
        "a b:acme",
        "jobs.moved:acme",
        "a:acme,a:globex",
    ],
)
def test_a_broken_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not `topic|own events|twice"):
        read_speakers(text)
