"""Faust's Kafka consumer, with the commits and the seeks that the usage windows can rely on."""

from collections.abc import Callable, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver


class UsageConsumer(driver.Consumer):
    """Commits each event that is counted, and none whose windows are not kept.

    Faust itself commits past changelog records that are still on their way, or were refused.
    """

    transport: "UsageTransport"

    async def _commit_offsets(self, offsets: Mapping[Any, int], *rest: Any, **more: Any) -> bool:
        await self.transport.before_commit()
        return bool(await super()._commit_offsets(offsets, *rest, **more))

    async def perform_seek(self) -> None:
        """Go back to what is committed; who calls it lets the records flow again."""
        # Faust lets them flow already. One that comes meanwhile looks like a jump in the log: all
        # before it counts as done, and from then on each commit moves by a single event.
        self.stop_flow()
        await self.wait_for_stopped_flow()
        await super().perform_seek()

    async def _getmany(self, *what: Any, **more: Any) -> Any:
        # Faust sets it once there is an answer, and else nobody would wait for one.
        self.not_waiting_next_records.clear()
        return await super()._getmany(*what, **more)

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Seek each partition to what is committed, or to its beginning where nothing is."""
        committed: Mapping[Any, int] = await super().seek_to_committed()
        fresh = [tp for tp in committed if not committed[tp] and not self._is_changelog_tp(tp)]
        if fresh:
            # The client leaves them where it stands, past what was fetched and then thrown away.
            await self._thread.seek_to_beginning(*fresh)
        return committed

    def committed(self, partition: Any) -> int:
        """Tell the offset from which the group goes on."""
        return self._committed_offset[partition] or 0


class UsageTransport(driver.Transport):
    """Makes that consumer; `before_commit` is awaited before each commit."""

    Consumer = UsageConsumer
    before_commit: Callable[[], Any]
