"""What is the disk blob store's own: files, directories, threads, and trouble with them."""

import asyncio
import errno
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
from streams.blobs.base import Stored, source_key
from streams.blobs.disk import DiskBlobs

KEY = source_key("acme", "0190a1b2-0000-7000-8000-000000000001")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "blobs"


async def keys(blobs: DiskBlobs) -> set[str]:
    return {stored.key async for stored in blobs.list_all()}


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


async def test_one_that_cannot_be_kept_does_not_disturb_those_beside_it(root: Path) -> None:
    blobs = DiskBlobs(root)
    await blobs.put(KEY, b"hello")
    (root / "globex").write_text("in the way")
    wanted = {f"acme/job-{number}/source" for number in range(20)}
    told = await asyncio.gather(
        *(blobs.put(key, b"x") for key in sorted(wanted)),
        *(blobs.put(f"globex/job-{number}/source", b"x") for number in range(20)),
        return_exceptions=True,
    )
    assert {kept.key for kept in told[:20] if isinstance(kept, BlobRef)} == wanted
    assert all(isinstance(error, TransientError) for error in told[20:])
    (root / "globex").unlink()
    assert await keys(blobs) == {KEY, *wanted}


async def test_a_writer_cancelled_while_it_keeps_waits_for_the_end(root: Path) -> None:
    blobs = DiskBlobs(root)
    puts = [asyncio.create_task(blobs.put(f"acme/job-{n}/source", b"x")) for n in range(50)]
    await asyncio.sleep(0)
    for put in puts[::2]:
        put.cancel()
    ends = await asyncio.wait_for(asyncio.gather(*puts, return_exceptions=True), 10)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 25
    assert {key.partition("/")[0] for key in await keys(blobs)} == {"acme"}
    assert {end.key for end in ends if isinstance(end, BlobRef)} <= await keys(blobs)


async def test_reads_go_on_beside_a_stream_of_writers(root: Path) -> None:
    blobs = DiskBlobs(root, threads=1)
    kept = await blobs.put(KEY, b"hello")
    stopped = False

    async def write_on(number: int) -> None:
        while not stopped:
            await blobs.put(f"acme/job-{number}/source", b"x")

    writers = [asyncio.create_task(write_on(number)) for number in range(20)]
    for _ in range(20):
        assert await asyncio.wait_for(blobs.read(kept), 10) == b"hello"
    stopped = True
    await asyncio.wait_for(asyncio.gather(*writers), 10)


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
