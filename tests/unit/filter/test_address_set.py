"""Sets of addresses: what they are made of, what is refused, and what the kernel's maps get."""

from __future__ import annotations

import ipaddress
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from netring_bpf.errors import OptionError
from netring_bpf.filter import address_set
from netring_bpf.filter.address_set import AddressSet


def lpm(*networks: str) -> bytes:
    made = [ipaddress.ip_network(network) for network in networks]
    return b"".join(n.prefixlen.to_bytes(4, "little") + n.network_address.packed for n in made)


def packed(*addresses: str) -> bytes:
    return b"".join(ipaddress.ip_address(address).packed for address in addresses)


def test_a_set_has_the_addresses_that_it_was_made_of_and_no_others() -> None:
    made = AddressSet.of_nets(["10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "::1"])
    for inside in ("10.0.0.0", "10.255.255.255", "192.168.1.7", "2001:db8:ffff::", "::1"):
        assert inside in made
    for outside in ("9.255.255.255", "11.0.0.0", "192.168.1.6", "192.168.1.8", "2001:db9::", "::"):
        assert outside not in made
    assert len(made) == 4


def test_hosts_go_into_a_hash_map_and_networks_into_a_trie() -> None:
    made = AddressSet.of_nets(["10.0.0.9", "10.1.0.0/16", "2001:db8::7", "2001:db8:1::/48"])
    assert made.keys(4) == (packed("10.0.0.9"), lpm("10.1.0.0/16"))
    assert made.keys(6) == (packed("2001:db8::7"), lpm("2001:db8:1::/48"))
    neighbours = AddressSet.of_hosts(["10.0.0.1", "10.0.0.0", "10.0.0.1"])
    assert neighbours.keys(4) == (packed("10.0.0.0", "10.0.0.1"), b"")
    assert len(neighbours) == 2


def test_networks_are_as_few_as_there_can_be() -> None:
    made = AddressSet.of_nets(["10.0.0.0/9", "10.128.0.0/9", "10.7.0.0/16", "10.0.0.1"])
    assert made.keys(4) == (b"", lpm("10.0.0.0/8"))
    everything = AddressSet.of_nets(["0.0.0.0/0", "::/0"])
    assert (everything.keys(4), everything.keys(6)) == ((b"", lpm("0.0.0.0/0")), (b"", lpm("::/0")))


def test_random_networks_are_those_of_ipaddress() -> None:
    draw = random.Random(7)
    for width, make in ((32, ipaddress.IPv4Network), (128, ipaddress.IPv6Network)):
        networks = []
        for _ in range(300):
            length = draw.randrange(width - 12, width + 1)
            first = (10 << width - 8 | draw.randrange(1 << 12)) >> width - length << width - length
            networks.append(make((first, length)))
        made = AddressSet.of_nets(map(str, networks))
        expected = list(ipaddress.collapse_addresses(networks))
        hosts = b"".join(n.network_address.packed for n in expected if n.prefixlen == width)
        nets = lpm(*(str(n) for n in expected if n.prefixlen < width))
        assert made.keys(4 if width == 32 else 6) == (hosts, nets)
        assert made == AddressSet.of_nets(networks)


def test_equal_addresses_are_an_equal_set() -> None:
    one = AddressSet.of_nets(["10.0.0.0/31", "10.0.0.2/31"])
    other = AddressSet.of_hosts(ipaddress.ip_network("10.0.0.0/30"))
    assert one == other
    assert hash(one) == hash(other)
    assert one != AddressSet.of_hosts(["10.0.0.0"])
    assert AddressSet.of_hosts([]) == AddressSet.of_nets([])
    assert pickle.loads(pickle.dumps(other)) == other


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("10.0.0.256", "10.0.0.256"),
        ("010.0.0.1", "010.0.0.1"),
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("example.org", "example.org"),
        ("fe80::1%eth0", "scope"),
        ("fe80::1%eth0\0", "fe80"),
        ("", ""),
        (167_772_161, "must be an address"),
        (None, "None"),
    ],
)
def test_what_is_no_address_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(OptionError, match=r"^hosts: .*") as caught:
        AddressSet.of_hosts(["10.0.0.1", value])
    assert reason in str(caught.value)
    assert caught.value.option == "hosts"


@pytest.mark.parametrize("value", ["10.0.0.1/24", "10.0.0.0/33", "::/129", "10.0.0.0/", "10/8",
                                   "10.0.0.0/²", 10, ("10.0.0.0", 8, 9)])  # fmt: skip
def test_what_is_no_network_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match=r"^nets: "):
        AddressSet.of_nets([value])


def test_a_netmask_is_a_length() -> None:
    assert AddressSet.of_nets(["10.0.0.0/255.0.0.0"]) == AddressSet.of_nets(["10.0.0.0/8"])


def test_a_text_is_no_list() -> None:
    with pytest.raises(OptionError, match="must be a list"):
        AddressSet.of_hosts("10.0.0.1")


def test_a_file_has_one_in_a_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "drop.txt"
    path.write_text(
        "\ufeff; a blocklist\n# another comment\n\n10.0.0.0/8 ; SBL1\n"
        "  192.0.2.1\t# one\r\n2001:db8::/32;x\n"
    )
    assert AddressSet.of_nets(path) == AddressSet.of_nets(
        ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
    )
    with pytest.raises(OptionError, match=rf"^hosts of {path}: line 4: '10.0.0.0/8' "):
        AddressSet.of_hosts(path)
    path.write_bytes(b"10.0.0.1\n\xff\xfe\n")
    with pytest.raises(OptionError, match="line 2"):
        AddressSet.of_nets(path)
    with pytest.raises(OptionError, match="No such file"):
        AddressSet.of_nets(tmp_path / "absent")


def test_more_than_the_kernel_should_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_set, "MAX_ENTRIES", 100)
    assert len(AddressSet.of_hosts(f"10.0.0.{n}" for n in range(100))) == 100
    with pytest.raises(OptionError, match="a set of 101 addresses or networks: must be at most 1"):
        AddressSet.of_hosts(f"10.0.0.{n}" for n in range(101))
