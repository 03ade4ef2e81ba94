"""Malformed forms: each is refused with words, none is an error of ours, none leaves a trace."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.gateway_bodies import in_chunks
from tests.gateway_desk import UPLOAD, GatewayDesk, open_gateway

FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n'
FORM = "multipart/form-data; boundary=x"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[GatewayDesk]:
    async with open_gateway(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"--x--\r\n", FORM, "no part named file"),
        (b"", FORM, "malformed, or ends early"),
        (b"no boundary at all", FORM, "malformed, or ends early"),
        (b"--x\r\n" + FILE + b"\r\ncut", FORM, "malformed, or ends early"),
        (b"--x\r\n" + FILE + b"\r\n", FORM, "malformed, or ends early"),
        (b"--x\r\n" + FILE, FORM, "malformed, or ends early"),
        (b"--x\r\n", FORM, "no `Content-Disposition: form-data`"),
        (b"--x\r\n" + FILE + b"\r\ntext\r\n--xy\r\n", FORM, "malformed, or ends early"),
        (b"--x\r\n" + FILE + b"\r\ntext\r\n--x\r\n", FORM, "no `Content-Disposition: form-data`"),
        (
            b"--x\r\n" + FILE + b"\r\none\r\n--x\r\n" + FILE + b"\r\ntwo\r\n--x--\r\n",
            FORM,
            "two parts named file",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="doc"\r\n\r\ntext\r\n--x--\r\n',
            FORM,
            "no option 'doc'",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--x--\r\n',
            FORM,
            "the field 'name' is not UTF-8",
        ),
        (b"--x\r\nX: y\r\n\r\ntext\r\n--x--\r\n", FORM, "no `Content-Disposition: form-data`"),
        (
            b"--x\r\nContent-Disposition: form-data; name\r\n\r\ntext\r\n--x--\r\n",
            FORM,
            "Content-Disposition header is broken",
        ),
        (b"--x\r\n" + b"n" * 9000 + b"\r\n\r\n--x--", FORM, "malformed, or ends early"),
        (b"--x\r\nno header\r\n\r\ntext\r\n--x--\r\n", FORM, "malformed, or ends early"),
        (b"--x\r\n" + b"A: b\r\n" * 500 + b"\r\ntext\r\n--x--\r\n", FORM, "malformed"),
        (
            b"--x\r\n" + FILE + b"Content-Encoding: gzip\r\n\r\ntext\r\n--x--\r\n",
            FORM,
            "a part may not have a Content-Encoding",
        ),
        (
            b"--x\r\n" + FILE + b"Content-Transfer-Encoding: base64\r\n\r\ndGV4dA==\r\n--x--\r\n",
            FORM,
            "a part may not have a Content-Transfer-Encoding",
        ),
        (
            b"--x\r\n" + FILE + b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--",
            FORM,
            "a multipart of its own",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n'
            + b"c" * 40
            + b"\r\n--x--\r\n",
            FORM,
            "no option '_charset_'",
        ),
        (b"--x--", "multipart/form-data", "no usable boundary"),
        (b"--x--", "multipart/form-data; boundary=" + "b" * 71, "no usable boundary"),
        (b"--x--", "multipart/form-data; boundary=", "no usable boundary"),
    ],
)
async def test_malformed_forms(
    desk: GatewayDesk, body: bytes, content_type: str, words: str
) -> None:
    answer = await desk.post(UPLOAD, data=body, headers={"Content-Type": content_type})
    assert answer.status == 400, answer.content
    assert answer.json["code"] == "invalid_request"
    assert words in answer.json["detail"]
    assert desk.files() == []
    assert desk.said() == []


@pytest.mark.parametrize("encoding", ["binary", "8bit", "7BIT", "identity"])
async def test_plain_transfer_encodings_are_plain(desk: GatewayDesk, encoding: str) -> None:
    header = f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    body = b"--x\r\n" + FILE + header + b"te=20xt\r\n--x--\r\n"
    answer = await desk.post(UPLOAD, data=body, headers={"Content-Type": FORM})
    assert answer.status == 202, answer.content
    job = await desk.job(answer.json["job_id"])
    assert await desk.blobs.read(job.source) == b"te=20xt"


async def test_a_part_that_lies_about_its_length_is_read_to_its_boundary(desk: GatewayDesk) -> None:
    body = b"--x\r\n" + FILE + b"Content-Length: 2\r\n\r\nlonger\r\n--x--\r\n"
    answer = await desk.post(UPLOAD, data=body, headers={"Content-Type": FORM})
    assert answer.status == 202, answer.content
    job = await desk.job(answer.json["job_id"])
    assert await desk.blobs.read(job.source) == b"longer"


async def test_names_of_every_make(desk: GatewayDesk) -> None:
    names = {
        'filename="..\\\\..\\\\evil.txt"': "evil.txt",
        'filename="C:\\x.txt"': "C:x.txt",
        'filename="a;b.txt"': "a;b.txt",
        "filename*=UTF-8''na%C3%AFve%2F..%2Fx.txt": "x.txt",
        'filename="' + "l" * 300 + '.txt"': "l" * 251 + ".txt",
        'filename=""': None,
        'filename=".."': None,
    }
    for number, (given, expected) in enumerate(names.items()):
        head = f'Content-Disposition: form-data; name="file"; {given}\r\n\r\n{number}'.encode()
        body = b"--x\r\n" + head + b"\r\n--x--\r\n"
        answer = await desk.post(UPLOAD, data=body, headers={"Content-Type": FORM})
        assert answer.status == 202, (given, answer.content)
        assert (await desk.job(answer.json["job_id"])).name == expected


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("end", [b"\r\n", b""])
async def test_a_part_may_be_empty(desk: GatewayDesk, size: int, end: bytes) -> None:
    nameless = b'Content-Disposition: form-data; name="name"\r\n\r\n'
    body = b"--x\r\n" + nameless + end + b"--x\r\n" + FILE + b"\r\ntext\r\n--x--\r\n"
    answer = await desk.post(UPLOAD, data=in_chunks(body, size), headers={"Content-Type": FORM})
    assert answer.status == 202, answer.content
    job = await desk.job(answer.json["job_id"])
    assert (job.name, await desk.blobs.read(job.source)) == ("a.txt", b"text")


@pytest.mark.parametrize(
    "content", [b"\r" * 31, b"\r" * 32, b"\r" * 33, b"\r\n--" * 32, b"\r\n" * 99]
)
async def test_a_document_may_look_like_a_boundary(desk: GatewayDesk, content: bytes) -> None:
    document = b"text" + content
    body = b"--x\r\n" + FILE + b"\r\n" + document + b"\r\n--x--\r\n"
    answer = await desk.post(UPLOAD, data=body, headers={"Content-Type": FORM})
    assert answer.status == 202, answer.content
    job = await desk.job(answer.json["job_id"])
    assert await desk.blobs.read(job.source) == document
