"""Public addresses: the open internet's, and none that lead into somebody's network."""

from streams.public_addresses import is_public


def test_public_addresses() -> None:
    public = [
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
    ]
    assert [address for address in public if not is_public(address)] == []


def test_addresses_that_are_not_public_in_any_form() -> None:
    private = [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "127.0.0.1", "127.255.255.254"),
        *("100.64.0.0", "100.100.100.200", "100.127.255.255"),
        *("169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
        *("192.0.0.9", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1"),
        *("192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "168.63.129.16"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    ]
    assert [form for address in private for form in forms_of(address) if is_public(form)] == []


def forms_of(address: str) -> list[str]:
    """Write an IPv4 address by itself, and in the forms of IPv6 that lead to it."""
    first, second, third, fourth = (int(part) for part in address.split("."))
    in_6to4 = f"2002:{first:02x}{second:02x}:{third:02x}{fourth:02x}::1"
    return [address, f"::ffff:{address}", f"64:ff9b::{address}", in_6to4]


def test_ipv6_addresses_that_are_not_public() -> None:
    private = [
        *("::", "::1", "::7f00:1", "::1.1.1.1", "::ffff:0:1.1.1.1", "100::1"),
        *("64:ff9b:1::1.1.1.1", "64:ff9b:1::1", "2001::1", "2001:0:101:101::1", "2001:10::1"),
        *("2001:20::1", "2001:db8::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "4000::1"),
        *("fc00::1", "fd00:ec2::254", "fdff:ffff::1", "fe80::1", "fe80::1%eth0", "fec0::1"),
        *("ff02::1", "ff0e::1", "2606:4700::1111%1"),
    ]
    assert [address for address in private if is_public(address)] == []


def test_what_is_no_address_is_not_public() -> None:
    texts = ["", "1.1.1", "01.1.1.1", "0x1.1.1.1", "docs.example.com", "1"]
    assert [text for text in texts if is_public(text)] == []
