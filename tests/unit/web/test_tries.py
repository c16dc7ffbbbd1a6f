"""Those who guess the token get few tries, and nobody else pays for them."""

from __future__ import annotations

from netring_bpf.web.tries import Tries


def test_an_address_has_ten_tries_and_then_one_each_six_seconds() -> None:
    now = [0.0]
    tries = Tries(lambda: now[0])
    for _ in range(10):
        assert tries.wait("192.0.2.1") == 0
        tries.wrong("192.0.2.1")
    assert tries.wait("192.0.2.1") == 6
    assert tries.wait("192.0.2.2") == 0
    now[0] = 5.0
    assert tries.wait("192.0.2.1") == 1
    made = 0
    for _ in range(3600):
        now[0] += 1
        if tries.wait("192.0.2.1") == 0:
            tries.wrong("192.0.2.1")
            made += 1
    assert made == 600
    now[0] += 60
    assert tries.wait("192.0.2.1") == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    tries = Tries(lambda: 0.0)
    for n in range(10):
        tries.wrong(f"2001:db8::{n}")
    assert tries.wait("2001:db8::ffff") == 6
    assert tries.wait("2001:db8:0:1::1") == 0
    assert tries.wait("fe80::1%eth0") == 0
    assert tries.wait(None) == 0


def test_the_addresses_are_bounded_and_the_oldest_goes() -> None:
    tries = Tries(lambda: 0.0)
    for _ in range(10):
        tries.wrong("192.0.2.1")
    for n in range(1023):
        tries.wrong(f"10.0.{n >> 8}.{n & 255}")
    assert (len(tries), tries.wait("192.0.2.1")) == (1024, 6)
    tries.wrong("10.1.0.0")
    assert (len(tries), tries.wait("192.0.2.1")) == (1024, 0)
