"""The blob store's contract."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from schemas.errors import Code, PermanentError
from schemas.events import BlobRef
from streams.blobs.base import Blobs, BlobWriter, result_key, source_key
from streams.blobs.disk import DiskBlobs

JOB = "0190a1b2-0000-7000-8000-000000000001"
KEY = source_key("acme", JOB)
HELLO_SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "blobs"


@pytest.fixture(params=["disk"])
def blobs(root: Path) -> Blobs:
    return DiskBlobs(root)


async def keys(blobs: Blobs) -> set[str]:
    return {stored.key async for stored in blobs.list_all()}


async def test_what_is_put_is_read(blobs: Blobs) -> None:
    kept = await blobs.put(KEY, b"hello")
    assert kept == BlobRef(KEY, HELLO_SHA256, 5)
    assert await blobs.read(kept) == b"hello"
    async with blobs.open_local(kept) as path:
        assert await asyncio.to_thread(path.read_bytes) == b"hello"
    assert await blobs.exists(KEY)
    assert await keys(blobs) == {KEY}


async def test_an_empty_blob_is_a_blob(blobs: Blobs) -> None:
    kept = await blobs.put(KEY, b"")
    assert kept.size_bytes == 0
    assert await blobs.read(kept) == b""


async def test_putting_again_replaces(blobs: Blobs) -> None:
    first = await blobs.put(KEY, b"first")
    second = await blobs.put(KEY, b"hello")
    assert await blobs.read(second) == b"hello"
    with pytest.raises(PermanentError) as caught:
        await blobs.read(first)
    assert caught.value.code == Code.SOURCE_CORRUPT


async def test_the_first_who_puts_is_kept_and_told_to_all(blobs: Blobs) -> None:
    told = await asyncio.gather(*(blobs.put_first(KEY, b"put by %d" % n) for n in range(20)))
    assert len(set(told)) == 1
    content = await blobs.read(told[0])
    assert content in {b"put by %d" % n for n in range(20)}
    assert await blobs.put_first(KEY, b"too late") == told[0]
    assert await keys(blobs) == {KEY}


async def test_a_stream_is_the_sum_of_its_chunks(blobs: Blobs) -> None:
    digest = hashlib.sha256()
    async with blobs.open_writer(KEY) as writer:
        for number in range(300):
            chunk = bytes([number % 251]) * (number * 97)
            digest.update(chunk)
            await writer.write(chunk)
        kept = await writer.keep()
    assert kept == BlobRef(KEY, digest.hexdigest(), 97 * 299 * 300 // 2)
    assert hashlib.sha256(await blobs.read(kept)).hexdigest() == kept.sha256


@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_leaving_without_keep_leaves_nothing(blobs: Blobs, size: int) -> None:
    async with blobs.open_writer(KEY) as writer:
        await writer.write(b"x" * size)
    assert not await blobs.exists(KEY)
    assert await keys(blobs) == set()


@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_an_error_in_the_middle_leaves_nothing(blobs: Blobs, size: int) -> None:
    async def upload(writer: BlobWriter) -> None:
        await writer.write(b"x" * size)
        raise ValueError("the client went away")

    with pytest.raises(ValueError, match="went away"):
        async with blobs.open_writer(KEY) as writer:
            await upload(writer)
    assert await keys(blobs) == set()


async def test_a_cancelled_writer_leaves_nothing(blobs: Blobs) -> None:
    begun = asyncio.Event()

    async def upload() -> None:
        async with blobs.open_writer(KEY) as writer:
            await writer.write(b"x" * 3_000_000)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(upload())
    await asyncio.wait_for(begun.wait(), 10)
    assert len(await keys(blobs)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(blobs) == set()


async def test_a_kept_writer_takes_no_more(blobs: Blobs) -> None:
    async with blobs.open_writer(KEY) as writer:
        await writer.write(b"hello")
        await writer.keep()
        with pytest.raises(ValueError, match="kept"):
            await writer.write(b"more")
        with pytest.raises(ValueError, match="kept"):
            await writer.keep()
    assert await blobs.read(BlobRef(KEY, HELLO_SHA256, 5)) == b"hello"


async def test_a_missing_blob_is_said(blobs: Blobs) -> None:
    gone = BlobRef(KEY, HELLO_SHA256, 5)
    for reading in (blobs.read(gone), blobs.open_local(gone).__aenter__()):
        with pytest.raises(PermanentError) as caught:
            await reading
        assert caught.value.code == Code.SOURCE_MISSING
    assert not await blobs.exists(KEY)


async def test_delete_is_idempotent(blobs: Blobs) -> None:
    await blobs.put(KEY, b"hello")
    await blobs.put(result_key("acme", JOB, 1), b"result")
    await blobs.delete(KEY)
    await blobs.delete(KEY)
    assert await keys(blobs) == {f"acme/{JOB}/1/result"}


async def test_many_writers_at_once_for_one_tenant(blobs: Blobs) -> None:
    contents = {source_key("acme", f"job-{n}"): str(n).encode() * 1000 for n in range(64)}
    kept = await asyncio.gather(*(blobs.put(key, content) for key, content in contents.items()))
    assert await keys(blobs) == set(contents)
    for blob in kept:
        assert await blobs.read(blob) == contents[blob.key]


async def test_writers_and_deleters_of_one_tenant_do_not_disturb_each_other(blobs: Blobs) -> None:
    async def churn(number: int) -> None:
        for turn in range(10):
            key = source_key("acme", f"job-{number}-{turn}")
            blob = await blobs.put(key, key.encode())
            assert await blobs.read(blob) == key.encode()
            await blobs.delete(key)

    await asyncio.gather(*(churn(number) for number in range(16)))
    assert await keys(blobs) == set()


async def test_listing_passes_many(blobs: Blobs) -> None:
    wanted = {f"webhooks/event-{n}" for n in range(1200)}
    await asyncio.gather(*(blobs.put(key, b"x") for key in wanted))
    assert await keys(blobs) == wanted


async def test_the_check_leaves_nothing(blobs: Blobs) -> None:
    await blobs.check()
    assert await keys(blobs) == set()


@pytest.mark.parametrize(
    "key",
    [
        "", "acme", "/acme/a", "acme/", "acme//a", "../etc/passwd", "acme/../a", "acme/./a",
        "acme/a.b", "Acme/a", "acme/a\n", "acme/a\x00", "acme/é", "a/b/c/d/e/f", "a/" + "x" * 201,
    ],
)  # fmt: skip
async def test_keys_are_made_of_our_own_ids_only(blobs: Blobs, key: str) -> None:
    with pytest.raises(ValueError, match="not a blob key"):
        await blobs.put(key, b"x")
    with pytest.raises(ValueError, match="not a blob key"):
        await blobs.delete(key)
