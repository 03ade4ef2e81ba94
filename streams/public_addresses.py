"""Public addresses: those of the open internet, told from those that lead into a network."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_PRIVATE_V4 = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24"),
        *("192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        # A public address that answers every virtual machine of a large cloud, and nobody else.
        "168.63.129.16/32",
    )
)
"""Source: IANA's IPv4 Special-Purpose Address Registry; 224.0.0.0/3 is multicast and reserved."""

_UNICAST_V6 = IPv6Network("2000::/3")
"""All that IANA has given out for the open internet; the rest is refused without being listed."""

_PRIVATE_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")
)
"""Source: IANA's IPv6 Special-Purpose Address Registry; 2001::/23 has Teredo within."""

_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Tell whether an address, as text, is one of a host on the open internet.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is what it carries.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        return _is_public_v6(address)
    return _is_public_v4(address)


def _is_public_v4(address: IPv4Address) -> bool:
    # What the library knows of later registries counts beside the list.
    return address.is_global and not any(address in network for network in _PRIVATE_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    carried = address.ipv4_mapped or address.sixtofour
    if carried is None and address in _NAT64:
        carried = IPv4Address(int(address) & 0xFFFF_FFFF)
    if carried is not None:
        return _is_public_v4(carried)
    if address not in _UNICAST_V6 or any(address in network for network in _PRIVATE_V6):
        return False
    return address.is_global
