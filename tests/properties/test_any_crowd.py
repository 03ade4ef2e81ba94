"""A crowd of documents at a small rate: those that have begun go on, and all come to their end."""

import random
from collections import Counter

import pytest

from schemas.errors import TransientError
from streams.gate import SharedGate
from streams.token_bucket import Rate
from tests.cloud_parser import Naps
from tests.harness import open_memory_desk

WAY = (("upload", 2), ("submit", 0), ("see", 1), ("fetch", 1), ("see", 1), ("forget", 1))
"""The calls of a document, and how many each pays for."""
DOCUMENTS = 40
AT_ONCE = 16
PER_MINUTE = 60.0
STEP_MS = 1_000


class Crowd:
    """Documents that knock at the gate whenever they are not waiting behind it."""

    def __init__(self, gate: SharedGate, naps: Naps, chance: random.Random) -> None:
        self.done: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self._gate = gate
        self._naps = naps
        self._chance = chance
        self._until_ms: dict[int, float] = {}

    def waiting(self) -> int:
        """Count the documents that were submitted, and whose results nobody has fetched."""
        return sum(1 < self.done[n] < 4 for n in range(DOCUMENTS))

    async def knock(self, now_ms: float) -> None:
        """Let everybody knock who may, those who want to begin as eagerly as the others."""
        begun = sum(0 < self.done[n] < 2 for n in range(DOCUMENTS))
        for n in self._chance.sample(range(DOCUMENTS), DOCUMENTS):
            step = self.done[n]
            full = step == 0 and begun >= AT_ONCE
            if step == len(WAY) or full or self._until_ms.get(n, 0) > now_ms:
                continue
            self._naps.seconds.clear()
            try:
                await self._gate.enter(*WAY[step])
            except TransientError:
                # A document that has its job there is looked at again by and by; one that has
                # not begins anew.
                self._until_ms[n] = now_ms + (10_000 if step > 1 else 0)
                self.done[n] = step if step > 1 else 0
                continue
            self.calls[WAY[step][0]] += 1
            self.done[n] = step + 1
            self._until_ms[n] = now_ms + sum(self._naps.seconds) * 1000


@pytest.mark.parametrize("seed", range(3))
async def test_a_crowd_comes_to_its_end(seed: int) -> None:
    async with open_memory_desk() as desk:
        naps = Naps()
        gate = SharedGate(
            desk.tables,
            "cloud",
            lambda: Rate(PER_MINUTE, 5),
            desk.recorder,
            sleep=naps,
        )
        crowd = Crowd(gate, naps, random.Random(seed))
        seconds = most = 0
        while any(crowd.done[n] < len(WAY) for n in range(DOCUMENTS)):
            await crowd.knock(desk.clock.now_ms)
            desk.clock.pass_ms(STEP_MS)
            seconds += 1
            most = max(most, crowd.waiting())
            assert seconds < 2 * DOCUMENTS * len(WAY) * 60 / PER_MINUTE, crowd.calls
    assert crowd.calls["upload"] == DOCUMENTS, "a document was sent for nothing"
    assert most <= DOCUMENTS // 4, "results waited while other documents were sent"
