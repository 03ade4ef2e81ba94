"""Addresses of documents: what is on the list, and what only looks like it."""

import re

import pytest

from schemas.errors import Code, PermanentError
from streams.fetch_hosts import read_fetch_hosts

HOSTS = read_fetch_hosts(
    "docs.example.com, *.example.org,files.example.net:8443, XN--BCHER-KVA.example"
)


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        ("https://docs.example.com/a.pdf", "https://docs.example.com/a.pdf"),
        ("https://docs.example.com", "https://docs.example.com/"),
        ("https://docs.example.com?a=b", "https://docs.example.com/?a=b"),
        ("https://docs.example.com:443/a", "https://docs.example.com/a"),
        ("https://docs.example.com./a", "https://docs.example.com/a"),
        ("HTTPS://DOCS.Example.COM/A", "https://docs.example.com/A"),
        ("https://docs.example.com/a#page=2", "https://docs.example.com/a"),
        ("https://docs.example.com/%2e%2E/a?s=%2f+%20&s=", None),
        ("https://docs.example.com/@127.0.0.1/", None),
        ("https://a.example.org/a", None),
        ("https://a.b.example.org/a", None),
        ("https://files.example.net:8443/a", None),
        ("https://xn--bcher-kva.example/a", None),
        ("https://XN--BCHER-kva.example/a", "https://xn--bcher-kva.example/a"),
    ],
)
def test_a_listed_address_has_one_spelling(url: str, reached: str | None) -> None:
    assert HOSTS.check(url).url == (reached or url)


def test_what_is_not_on_the_list_is_refused() -> None:
    urls = [
        "",
        "http://docs.example.com/a",
        "ftp://docs.example.com/a",
        "file:///etc/passwd",
        "//docs.example.com/a",
        "https:docs.example.com/a",
        "https:///docs.example.com/a",
        "https://other.example.com/a",
        "https://example.com/a",
        "https://example.org/a",
        "https://aexample.org/a",
        "https://docs.example.com.evil.test/a",
        "https://evil.test/docs.example.com",
        "https://evil.test?docs.example.com",
        "https://evil.test#docs.example.com",
        "https://docs.example.com..:443/a",
        "https://.docs.example.com/a",
        "https://docs..example.com/a",
        "https://-a.example.org/a",
        f"https://{'a' * 64}.example.org/a",
        f"https://{'a.' * 130}example.org/a",
        f"https://docs.example.com/{'a' * 9000}",
    ]
    assert [url for url in urls if not refuses(url)] == []


def test_a_user_or_a_host_in_disguise_is_refused() -> None:
    urls = [
        "https://user:pass@docs.example.com/a",
        "https://user@docs.example.com/a",
        "https://@docs.example.com/a",
        "https://docs.example.com@evil.test/a",
        "https://docs.example.com:443@evil.test/a",
        "https://evil.test\\@docs.example.com/a",
        "https://docs.example.com\\@evil.test/a",
        "https://docs.example.com%40evil.test/a",
        "https://docs.example.com%00.evil.test/a",
        "https://docs%2eexample.com/a",
    ]
    assert [url for url in urls if not refuses(url)] == []


def test_no_other_port_is_reached() -> None:
    ports = [
        "80",
        "8443",
        "0",
        "00443x",
        "-443",
        "+443",
        "443 ",
        "65979",
        "443:443",
        "\uff14\uff14\uff13",
        "",
    ]
    assert [port for port in ports if not refuses(f"https://docs.example.com:{port}/a")] == []


def test_a_host_listed_with_a_port_has_that_one_alone() -> None:
    urls = ["https://files.example.net/a", "https://files.example.net:443/a"]
    assert [url for url in urls if not refuses(url)] == []


def test_an_ip_address_in_any_spelling_is_refused() -> None:
    hosts = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0",
        "0x",
        "1.2.3.4.",
        "93.184.216.34",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%25eth0]",
        "[2606:4700::1111]",
        "::1",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
    ]
    assert [
        host
        for host in hosts
        if not refuses(f"https://{host}/a") or not refuses(f"https://{host}:443/a")
    ] == []


def test_letters_that_two_readers_take_differently_are_refused() -> None:
    urls = [
        "https://docs.example.com/ä",
        "https://dócs.example.com/a",
        "https://bücher.example/a",
        "https://doc\u017f.example.com/a",
        "https://docs.example.com/\u212a",
        "https://docs。example。com/a",
        "https://docs.example.com/a b",
        "https://docs.example.com/a\r\nHost: evil.test",
        "https://docs.exam\nple.com/a",
        " https://docs.example.com/a",
        "https://docs.example.com/a\n",
        "https://docs.example.com/a\x00",
        "https://docs.example.com/a\x7f",
    ]
    assert [url for url in urls if not refuses(url)] == []


def test_an_empty_list_allows_nothing() -> None:
    for text in ("", " , ,"):
        with pytest.raises(PermanentError):
            read_fetch_hosts(text).check("https://docs.example.com/a")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("*", "'*' is no host name"),
        ("*.", "'*.' is no host name"),
        ("*.com", "stands for half the world"),
        ("docs.*.com", "is no host name"),
        ("https://docs.example.com", "has a port that cannot be"),
        ("docs.example.com/a", "is no host name"),
        ("127.0.0.1", "is no host name"),
        ("*.0.0.1", "is no host name"),
        ("[::1]", "is no host name"),
        ("bücher.example", "is no host name"),
        ("a.example:", "has a port that cannot be"),
        ("a.example:0", "has a port that cannot be"),
        ("a.example:65536", "has a port that cannot be"),
        ("a.example:https", "has a port that cannot be"),
        ("ok.example,b example", "'b example' is no host name"),
    ],
)
def test_a_wrong_list_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read_fetch_hosts(text)


def test_what_is_refused_is_not_repeated() -> None:
    for url in ("https://user:hunter2@a.test/", "https://a.test/?sig=hunter2"):
        with pytest.raises(PermanentError) as caught:
            HOSTS.check(url)
        assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(HOSTS.check("https://docs.example.com/?sig=hunter2"))


def refuses(url: str) -> bool:
    try:
        HOSTS.check(url)
    except PermanentError as error:
        return error.code is Code.URL_NOT_ALLOWED
    return False
