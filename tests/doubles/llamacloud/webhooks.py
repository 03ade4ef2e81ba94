"""Webhooks as LlamaCloud sends them: envelope, headers, signature, three tries, then dropped."""

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.doubles.llamacloud.behaviour import Behaviour, Delivery
from tests.doubles.llamacloud.faults import WEBHOOK, WEBHOOK_FAULTS, Deck, Fault, Injection
from tests.doubles.llamacloud.jobs import Hook, Job

USER_AGENT = "llamaindex-webhook-service/1.0"
FORGED_SECRET = "a secret that nobody registered"


@dataclass(frozen=True, slots=True)
class Event:
    """A thing to tell: of which job, to whom, and what is wrong with the telling."""

    id: str
    type: str
    job_id: str
    at: float
    hook: Hook
    fault: Fault | None


def sign(body: bytes, secret: str) -> str:
    """Give the value of LC-Signature for a raw body."""
    return (
        "sha256="
        + hmac.new(secret.encode("utf-8", "surrogatepass"), body, hashlib.sha256).hexdigest()
    )


def envelope(event: Event) -> dict[str, Any]:
    """Give the payload, drifted as the event's fault says."""
    data = {"id": event.job_id, "job_id": event.job_id}
    told: dict[str, Any] = {
        "event_id": event.id,
        "event_type": event.type,
        "timestamp": event.at,
        "data": data,
    }
    match event.fault:
        case Fault.EXTRA_FIELDS:
            told |= {"api_version": "2027-01", "attempt": {"number": 1}}
            told["data"] = data | {"status": "COMPLETED", "page_count": 1, "links": []}
        case Fault.MISSING_JOB_ID:
            told["data"] = {"id": event.job_id}
        case Fault.MISSING_FIELDS:
            told = {"event_type": event.type, "data": {}}
        case Fault.UNKNOWN_EVENT:
            told["event_type"] = "parse.archived"
        case Fault.WRONG_REGION:
            alien = f"pjb-{uuid.uuid5(uuid.NAMESPACE_OID, event.job_id)}"
            told["data"] = {"id": alien, "job_id": alien}
        case _:
            pass
    return told


def body_of(event: Event) -> bytes:
    """Give the raw body in the configured format: a JSON object, or a JSON string holding one."""
    if event.fault is Fault.NOT_JSON:
        return b"event_type=" + event.type.encode()
    written = json.dumps(envelope(event))
    return (json.dumps(written) if event.hook.output_format == "string" else written).encode()


def headers_of(event: Event, body: bytes) -> dict[str, str]:
    """Give the headers: LlamaCloud's own, the custom ones, and the signature where one is due."""
    told = envelope(event)
    headers = {
        **{name: str(value) for name, value in event.hook.headers.items()},
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-Webhook-Event-ID": event.id,
        "X-Webhook-Event-Type": str(told["event_type"]),
    }
    if event.fault is Fault.MISSING_FIELDS:
        del headers["X-Webhook-Event-ID"]
    if event.hook.secret and event.fault is not Fault.UNSIGNED:
        secret = FORGED_SECRET if event.fault is Fault.FORGED else event.hook.secret
        headers["LC-Signature"] = sign(body, secret)
    return headers


class Courier:
    """Delivers events in the background, each at its own pace."""

    def __init__(
        self,
        behaviour: Behaviour,
        deck: Deck,
        *,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._behaviour = behaviour
        self._deck = deck
        self._clock = clock
        self._changed = changed
        self._session: aiohttp.ClientSession | None = None
        self._held: list[asyncio.Event] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.deliveries: list[Delivery] = []

    async def open(self) -> None:
        """Open what it sends by."""
        timeout = aiohttp.ClientTimeout(total=self._behaviour.webhook_timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout)

    async def close(self) -> None:
        """Drop what is not delivered yet."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def tell(
        self, job: Job, event_type: str, *, on_time: bool = False
    ) -> asyncio.Task[None] | None:
        """Deliver an event of a job in the background, if its webhook asked for it."""
        hook = job.hook
        if hook is None or not hook.url:
            return None
        if hook.events is not None and event_type not in hook.events:
            return None
        card = None if on_time else self._deck.draw(WEBHOOK, WEBHOOK_FAULTS - {Fault.EARLY}, job)
        fault = Fault.EARLY if on_time else card.fault if card else None
        event = Event(str(uuid.uuid4()), event_type, job.id, self._clock(), hook, fault)
        task = asyncio.create_task(self._deliver(event, card))
        self.tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def release(self) -> None:
        """Let the webhooks go that were held to be reordered."""
        held, self._held = self._held, []
        for gate in held:
            gate.set()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._changed()

    async def _deliver(self, event: Event, card: Injection | None) -> None:
        if event.fault is Fault.LOST:
            self._note(event, attempt=0)
            return
        if event.fault is Fault.LATE and card is not None:
            await asyncio.sleep(card.seconds)
        if event.fault is Fault.REORDERED:
            gate = asyncio.Event()
            self._held.append(gate)
            await gate.wait()
        for _ in range(2 if event.fault is Fault.DOUBLED else 1):
            await self._try_thrice(event)
        if event.fault is not Fault.REORDERED:
            self.release()

    async def _try_thrice(self, event: Event) -> None:
        tries = self._behaviour.webhook_tries
        for attempt in range(1, tries + 1):
            delivery = self._note(event, attempt=attempt)
            await self._post(delivery)
            self._changed()
            if delivery.status is not None and 200 <= delivery.status < 300:
                return
            if attempt < tries:
                pauses = self._behaviour.webhook_backoff_seconds
                await asyncio.sleep(pauses[min(attempt, len(pauses)) - 1] if pauses else 0)

    def _note(self, event: Event, attempt: int) -> Delivery:
        body = body_of(event)
        delivery = Delivery(
            number=len(self.deliveries) + 1,
            at=self._clock(),
            event_id=event.id,
            event_type=event.type,
            job_id=event.job_id,
            url=event.hook.url,
            attempt=attempt,
            fault=event.fault,
            body=body,
            headers=headers_of(event, body),
        )
        self.deliveries.append(delivery)
        return delivery

    async def _post(self, delivery: Delivery) -> None:
        assert self._session is not None
        try:
            async with self._session.post(
                delivery.url,
                data=delivery.body,
                headers=delivery.headers,
                allow_redirects=False,
            ) as answer:
                await answer.read()
                delivery.status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            delivery.error = f"{type(error).__name__}: {error}"
