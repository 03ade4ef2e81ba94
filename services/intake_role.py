"""The intake's role: what it is made of, and the records that it reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.codec import CodecError
from schemas.submission_record import Origin, Submitted, Unfit, read_submission
from services import wiring
from services.defaults import defaults_of
from services.worker_parts import Process
from streams.admission import Terms
from streams.admission_rules import AdmissionRules
from streams.bus.base import Record
from streams.dead_letters import DeadLetterLimit
from streams.intake import Intake
from streams.listener import ListenerGround
from streams.named_sources import NamedSources
from streams.processor import Ground, Parked
from streams.speakers import read_speakers

AT_ONCE = 64
"""Submissions at once: those that wait for the disk share its transactions; each may hold 900 kB,
or a fetch's buffers."""


@asynccontextmanager
async def open_intake(process: Process, limit: DeadLetterLimit) -> AsyncIterator[Ground]:
    """Open the intake of the topics that the configuration names."""
    settings, recorder = process.settings, process.recorder
    terms = Terms(settings.timings(), defaults_of(settings), process.money.zone)
    rules = AdmissionRules(
        process.tables, terms, settings.choosing_tenants(), settings.max_upload_bytes
    )
    async with wiring.open_source_fetch(settings, at_once=AT_ONCE) as fetch:
        blobs = wiring.build_blobs(settings)
        sources = NamedSources(blobs, fetch, max_bytes=settings.max_upload_bytes)
        speakers = read_speakers(settings.intake)
        intake = Intake(speakers, rules, sources, recorder, cluster_id=process.cluster_id)
        yield ListenerGround(
            intake,
            process.tables,
            process.cluster_id,
            limit,
            recorder,
            slots=AT_ONCE,
            decode=read_record,
            in_order_by=submission_named_by,
        )


def submission_named_by(record: Record) -> object:
    """Tell a submission and its doubles from others, whatever their keys.

    Were a key's records handled in order, a producer with one key and slow addresses would hold up
    every other producer's records for as long as all of them take together.
    """
    named = [value for name, value in record.headers if name == "ce_id" and value]
    return named[0] if named else (record.partition, record.offset)


def read_record(record: Record) -> Submitted | Unfit | Parked:
    """Read a record of any client as a submission.

    What cannot be read is kept for people to see, and counts for nothing: a client elsewhere that
    writes rubbish must not stop the intake of all others.
    """
    place = record.partition
    origin = Origin(place.topic, place.number, record.offset)
    try:
        return read_submission(record.value, record.headers, record.key, origin)
    except CodecError as error:
        return Parked(error.code, error.message)
