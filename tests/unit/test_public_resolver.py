"""The resolver's own look-ups: in threads of their own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from streams.public_resolver import look_up_in


class _Counted(ThreadPoolExecutor):
    taken = 0

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        self.taken += 1
        return super().submit(work, *given, **named)


async def test_a_name_is_looked_up_in_threads_that_nobody_elses_work_waits_for() -> None:
    others = threading.active_count()
    with _Counted(1) as threads:
        assert await look_up_in(threads)("127.0.0.1") == ["127.0.0.1"]
        assert (threads.taken, threading.active_count()) == (1, others + 1)
