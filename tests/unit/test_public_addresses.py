"""Public addresses: the open internet's, and none that lead into somebody's network."""

import pytest

from streams.public_addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.169.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80e::200e",
        "2001:4860:4860::8888",
        "::ffff:93.184.216.34",
        "64:ff9b::5db8:d822",
        "2002:5db8:d822::1",
    ],
)
def test_a_public_address(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "127.0.0.1", "127.255.255.254"),
        *("100.64.0.0", "100.100.100.200", "100.127.255.255"),
        *("169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
        *("192.0.0.9", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1"),
        *("192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "168.63.129.16"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    ],
)
@pytest.mark.parametrize("form", ["{v4}", "::ffff:{v4}", "64:ff9b::{v4}", "6to4"])
def test_an_address_that_is_not_public_in_every_form(address: str, form: str) -> None:
    if form == "6to4":
        first, second, third, fourth = (int(part) for part in address.split("."))
        text = f"2002:{first:02x}{second:02x}:{third:02x}{fourth:02x}::1"
    else:
        text = form.format(v4=address)
    assert not is_public(text)


@pytest.mark.parametrize(
    "address",
    [
        *("::", "::1", "::7f00:1", "::1.1.1.1", "::ffff:0:1.1.1.1", "100::1"),
        *("64:ff9b:1::1.1.1.1", "64:ff9b:1::1", "2001::1", "2001:0:101:101::1", "2001:10::1"),
        *("2001:20::1", "2001:db8::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "4000::1"),
        *("fc00::1", "fd00:ec2::254", "fdff:ffff::1", "fe80::1", "fe80::1%eth0", "fec0::1"),
        *("ff02::1", "ff0e::1", "2606:4700::1111%1"),
    ],
)
def test_an_ipv6_address_that_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("text", ["", "1.1.1", "01.1.1.1", "0x1.1.1.1", "docs.example.com", "1"])
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)
