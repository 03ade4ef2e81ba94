"""The blob store's contract, and what is the disk's own."""

import asyncio
import errno
import hashlib
import os
import resource
import stat
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import BlobRef
from streams.blobs.base import Blobs, BlobWriter, Stored, result_key, source_key
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


@given(st.text(max_size=40) | st.from_regex(r"[a-z./_-]{1,30}", fullmatch=True))
def test_no_key_leads_out_of_the_root(key: str) -> None:
    root = Path("/blobs")
    try:
        path = DiskBlobs(root).path(key)
    except ValueError:
        return
    assert os.path.normpath(path) == str(path)
    assert path.parent.parent == root
    assert not path.name.startswith(".")


async def test_files_are_private(root: Path) -> None:
    blobs = DiskBlobs(root)
    await blobs.put(KEY, b"hello")
    await blobs.put(KEY, b"x" * 3_000_000)
    paths = await asyncio.to_thread(lambda: [root, *root.rglob("*")])
    assert len(paths) == 4
    for path in paths:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@pytest.mark.parametrize("change", [b"hellx", b"hell", b"hello and more", b""])
async def test_changed_bytes_are_never_lent(root: Path, change: bytes) -> None:
    blobs = DiskBlobs(root)
    kept = await blobs.put(KEY, b"hello")
    blobs.path(KEY).write_bytes(change)
    for reading in (blobs.read(kept), blobs.open_local(kept).__aenter__()):
        with pytest.raises(PermanentError) as caught:
            await reading
        assert caught.value.code == Code.SOURCE_CORRUPT
        assert "hell" not in caught.value.message


async def test_what_a_crash_leaves_is_listed_with_its_age_and_can_be_removed(root: Path) -> None:
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from streams.blobs.disk import DiskBlobs\n"
        "async def main():\n"
        "    async with DiskBlobs(Path(sys.argv[1])).open_writer('acme/job/source') as writer:\n"
        "        await writer.write(b'x' * 2_000_000)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(root))
    assert await asyncio.wait_for(child.wait(), 30) == -9
    later = DiskBlobs(root, clock=lambda: time.time() + 90_000)
    left = [stored async for stored in later.list_all()]
    assert len(left) == 1
    assert left[0].key.startswith("_tmp/")
    assert left[0].age_seconds > 86_400
    await later.delete(left[0].key)
    assert await keys(later) == set()


async def test_foreign_files_are_passed_by(root: Path) -> None:
    blobs = DiskBlobs(root)
    await blobs.put(KEY, b"hello")
    (root / "acme" / "README.TXT").write_text("not ours")
    (root / "lost+found").mkdir()
    (root / "note").write_text("not ours")
    assert await keys(blobs) == {KEY}


async def test_an_empty_store_lists_nothing(root: Path) -> None:
    assert [stored async for stored in DiskBlobs(root).list_all()] == list[Stored]()


async def test_directories_removed_under_a_living_store_come_back(root: Path) -> None:
    blobs = DiskBlobs(root)
    await blobs.put(KEY, b"hello")
    await blobs.delete(KEY)
    (root / "acme").rmdir()
    with pytest.raises(TransientError):
        await blobs.put(KEY, b"hello")
    await blobs.put(KEY, b"hello")
    assert await keys(blobs) == {KEY}


async def test_trouble_of_the_disk_is_transient(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blobs = DiskBlobs(tmp_path / "file" / "blobs")
    for call in (blobs.put(KEY, b"hello"), blobs.check()):
        with pytest.raises(TransientError) as caught:
            await call
        assert caught.value.code == Code.STORAGE_UNAVAILABLE
        assert str(tmp_path) not in caught.value.message


async def test_a_full_disk_is_transient_and_leaves_nothing(root: Path) -> None:
    blobs = DiskBlobs(root)
    await blobs.put(KEY, b"hello")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(TransientError, match=os.strerror(errno.EFBIG)) as caught:
            await blobs.put("acme/big/source", b"x" * 5_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == Code.STORAGE_UNAVAILABLE
    assert await keys(blobs) == {KEY}


async def test_a_large_stream_stays_out_of_memory(root: Path) -> None:
    program = (
        "import asyncio, resource, sys; from pathlib import Path\n"
        "from streams.blobs.disk import DiskBlobs\n"
        "async def main():\n"
        "    blobs = DiskBlobs(Path(sys.argv[1]))\n"
        "    await blobs.put('acme/small/source', b'x' * 2_000_000)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    async with blobs.open_writer('acme/large/source') as writer:\n"
        "        for _ in range(2048):\n"
        "            await writer.write(bytes(65536))\n"
        "        kept = await writer.keep()\n"
        "    async with blobs.open_local(kept):\n"
        "        pass\n"
        "    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print(kept.size_bytes, after - before)\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(root), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(), 60)
    size, grown = (int(number) for number in out.split())
    assert size == 134_217_728
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 16_000_000
