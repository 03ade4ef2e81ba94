"""Random bytes: each given once, in every thread and every fork."""

import sys
from concurrent.futures import ThreadPoolExecutor
from subprocess import run

from schemas.chance import random_bytes
from schemas.ids import uuid7
from streams.tracing import child_of, new_traceparent


def test_threads_share_no_bytes() -> None:
    def draw(_: int) -> list[bytes]:
        return [random_bytes() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as pool:
        drawn = [given for part in pool.map(draw, range(8)) for given in part]
    assert {len(given) for given in drawn} == {16}
    assert len(set(drawn)) == 16_000


def test_a_fork_does_not_repeat_its_parent() -> None:
    program = (
        "import os; from schemas.chance import random_bytes; random_bytes()\n"
        "child = os.fork()\n"
        "os.write(1, b'\\n'.join(random_bytes().hex().encode() for _ in range(100)) + b'\\n')\n"
        "child and os.waitpid(child, 0)\n"
    )
    drawn = run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
    assert len(set(drawn)) == len(drawn) == 200


def test_every_bit_of_an_id_that_may_differ_does() -> None:
    ids = [int(uuid7(0).replace("-", ""), 16) for _ in range(400)]
    some, every = 0, ~0
    for made in ids:
        some, every = some | made, every & made
    assert some & ~every == (0xFFF << 64) | (0x3FFF << 48 | 0xFFFF_FFFF_FFFF)


def test_a_trace_goes_on_under_a_new_span() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    child = child_of(parent)
    assert child[:36] == parent[:36]
    assert child[36:52] != parent[36:52]
    assert child[52:] == "-00"
    for broken in (None, "", parent[1:], parent.replace("b7ad6b7169203331", "0" * 16)):
        begun = child_of(broken)
        assert len(begun) == len(parent)
        assert begun[:3] + begun[-3:] == "00--01"
    assert new_traceparent()[3:35] != new_traceparent()[3:35]
