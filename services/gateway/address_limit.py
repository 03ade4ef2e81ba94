"""A limit of requests per remote address: a token bucket each, for a bounded number of them."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

_MOST_ADDRESSES = 10_000
_IPV6_PREFIX = 64
"""Who has one IPv6 address has its whole /64."""


class AddressLimit:
    """Lets each address make `per_second` requests on average, one second's worth at once.

    The address that was silent longest is forgotten where there are too many; by then its bucket
    has long been full again, unless as many addresses ask within a second.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float],
        *,
        most_addresses: int = _MOST_ADDRESSES,
    ) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second)
        self._clock = clock
        self._most = most_addresses
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str | None) -> float:
        """Count a request; give 0, or the seconds until this address may ask again."""
        name = network_of(address)
        now = self._clock()
        tokens, at = self._buckets.pop(name, (self._burst, now))
        tokens += (now - at) * self._per_second
        tokens = min(tokens, self._burst)
        wait_seconds = 0.0
        if tokens >= 1:
            tokens -= 1
        else:
            wait_seconds = (1 - tokens) / self._per_second
        self._buckets[name] = (tokens, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait_seconds


def network_of(address: str | None) -> str:
    """Name whom an address counts for: itself, or the network that an IPv6 address is in."""
    if address is None or ":" not in address:
        return address or ""
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, _IPV6_PREFIX), strict=False))
