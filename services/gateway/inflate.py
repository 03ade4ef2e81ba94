"""Inflating: gzip and deflate bodies unpacked in small steps, whatever they grow to."""

import zlib

from schemas.errors import Code
from services.gateway.problems import RefusedError

STEP_BYTES = 1 << 18
"""The most that one step gives: a bomb takes no more memory than an honest body."""

_MOST_MEMBERS = 1024
_GZIP = 16 + zlib.MAX_WBITS
_CODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}


class Inflater:
    """Unpacks one body; gzip may have several members (RFC 1952, 2.2)."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._stream = zlib.decompressobj(window_bits)
        self._input = b""
        self._begun = False
        self._members = 1
        self.hungry = True
        """No step gives more before it is fed."""

    def feed(self, chunk: bytes) -> None:
        """Take packed bytes."""
        if not self._begun and self._window_bits == zlib.MAX_WBITS and chunk[0] & 0x0F != 8:
            # Some senders leave out the zlib header that RFC 9110 asks for (8.4.1.2).
            self._window_bits = -zlib.MAX_WBITS
            self._stream = zlib.decompressobj(self._window_bits)
        self._begun = True
        self._input += chunk
        self.hungry = False

    def step(self) -> bytes:
        """Unpack the next bytes, at most STEP_BYTES; empty is not the end."""
        if self._stream.eof:
            self._next_member()
        try:
            content = self._stream.decompress(self._input, STEP_BYTES)
        except zlib.error:
            raise _broken("it cannot be unpacked") from None
        self._input = self._stream.unused_data or self._stream.unconsumed_tail
        self.hungry = not self._input and len(content) < STEP_BYTES
        return content

    def finish(self) -> None:
        """Check that the body ended where its coding ends."""
        if self._begun and not self._stream.eof:
            raise _broken("it ends early")

    def _next_member(self) -> None:
        self._members += 1
        if self._window_bits != _GZIP or self._members > _MOST_MEMBERS:
            raise _broken("something stands after its end")
        self._stream = zlib.decompressobj(self._window_bits)


def inflater_for(content_encoding: str | None) -> Inflater | None:
    """Give what unpacks this Content-Encoding; None where nothing is to be unpacked."""
    coding = (content_encoding or "identity").strip().lower()
    if coding in ("identity", ""):
        return None
    if coding not in _CODINGS:
        raise RefusedError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Content-Encoding may be identity, gzip or deflate, and only one of them",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return Inflater(_CODINGS[coding])


def _broken(what: str) -> RefusedError:
    return RefusedError(
        Code.INVALID_REQUEST, f"the body does not keep its Content-Encoding: {what}"
    )
