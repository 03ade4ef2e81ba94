"""Unpacking record batches of any producer, within a bound: a small one may be huge unpacked.

aiokafka unpacks without a bound, on the loop: one record of zeros would take a worker's memory.
"""

import struct
import sys
import zlib
from collections.abc import Callable

import cramjam
from aiokafka.codec import snappy_decode
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy

MOST_BYTES = 16 * 1024 * 1024
"""Clients make batches of 1 MB and less before they pack them."""

Packed = bytes | bytearray | memoryview

_FIRST_BYTES = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_XERIAL = struct.Struct(">8sii")
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_LENGTH = struct.Struct(">i")


class UnpackError(Exception):
    """A batch is broken, or larger than is taken; its producer's fault either way."""


def bound_unpacking() -> None:
    """Let aiokafka's readers of batches unpack with the functions of this room."""
    for reader in (DefaultRecordBatch, _DefaultRecordBatchPy):
        module = sys.modules[reader.__module__]
        for name, unpack in _UNPACKERS.items():
            setattr(module, name, unpack)


def _gzip(packed: Packed) -> bytes:
    unpacked, rest = bytearray(), bytes(packed)
    while rest:
        stream = zlib.decompressobj(_GZIP)
        try:
            unpacked += stream.decompress(rest, MOST_BYTES + 1 - len(unpacked))
        except zlib.error as error:
            raise UnpackError(f"broken gzip: {error}") from None
        if len(unpacked) > MOST_BYTES:
            raise _too_large("gzip")
        if not stream.eof:
            raise UnpackError("broken gzip: it ends too soon")
        rest = stream.unused_data
    return bytes(unpacked)


def _snappy(packed: Packed) -> bytes:
    view = memoryview(packed)
    try:
        if sum(map(cramjam.snappy.decompress_raw_len, _blocks(view))) > MOST_BYTES:
            raise _too_large("snappy")
        return bytes(snappy_decode(packed))
    except (cramjam.DecompressionError, struct.error) as error:
        raise UnpackError(f"broken snappy: {error}") from None


def _blocks(view: memoryview) -> list[memoryview]:
    """Split what Java's library frames; other clients write a single block."""
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return [view]
    blocks, start = [], _XERIAL.size
    while start < len(view):
        (length,) = _LENGTH.unpack_from(view, start)
        start += _LENGTH.size
        if length <= 0 or start + length > len(view):
            raise UnpackError("broken snappy: a block's length cannot be")
        blocks.append(view[start : start + length])
        start += length
    return blocks


def _framed(name: str, into: Callable[..., int]) -> Callable[[Packed], bytes]:
    """Give an unpacker that tries larger and larger buffers, up to the bound."""

    def unpack(packed: Packed) -> bytes:
        raw = bytes(packed)
        room = min(max(_FIRST_BYTES, 4 * len(raw)), MOST_BYTES)
        while True:
            buffer = bytearray(room)
            try:
                return bytes(memoryview(buffer)[: into(raw, buffer)])
            except cramjam.DecompressionError as error:
                if room == MOST_BYTES:
                    why = f"broken {name}, or more than {MOST_BYTES} bytes: {error}"
                    raise UnpackError(why) from None
            room = min(8 * room, MOST_BYTES)

    return unpack


_UNPACKERS = {
    "gzip_decode": _gzip,
    "snappy_decode": _snappy,
    "lz4_decode": _framed("lz4", cramjam.lz4.decompress_into),
    "zstd_decode": _framed("zstd", cramjam.zstd.decompress_into),
}


def _too_large(name: str) -> UnpackError:
    return UnpackError(f"{name} of more than {MOST_BYTES} bytes")
