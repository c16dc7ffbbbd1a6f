"""The command that asks again, and what counts as working."""

from __future__ import annotations

import shlex

import pytest

from netring_bpf.cli.app import parser
from netring_bpf.doctor.examine import works
from netring_bpf.doctor.finding import Asked, Finding, State
from netring_bpf.interface.netlink import ReceiveHash


@pytest.mark.parametrize("interface", [None, "eth0", "-i", "it's", "a b"])
@pytest.mark.parametrize("steal", [False, True])
def test_the_command_asks_the_same_again(interface: str | None, steal: bool) -> None:
    asked = Asked(interface, "af_xdp", steal, ["netring-bpf", "doctor"], "a b")
    program, *arguments = shlex.split(asked.again())
    given = parser().parse_args(arguments)
    assert (program, given.command, given.interface) == ("netring-bpf", "doctor", interface)
    assert (given.backend, given.steal, given.netns) == ("af_xdp", steal, "a b")


def test_the_command_asks_for_another_backend_or_interface() -> None:
    asked = Asked("eth0", "auto", False, ["/a b/netring-bpf", "doctor"])
    assert asked.again() == "'/a b/netring-bpf' doctor -i eth0"
    assert asked.again(backend="tpacket_v3").endswith("doctor -i eth0 --backend tpacket_v3")
    assert asked.again(interface="eth1").endswith("doctor -i eth1")


def test_only_what_is_bad_keeps_a_capture_from_working() -> None:
    findings = [Finding("check", state, "") for state in State]
    assert not works(findings)
    assert works(finding for finding in findings if finding.state is not State.BAD)


@pytest.mark.parametrize(
    ("key", "transform", "symmetric"),
    [
        ("6d5a" * 20, 0, True),
        ("0000" * 20, 0, True),
        ("6d5a56da255b0ec2", 0, False),
        ("6d5a56da255b0ec2", 1, True),
        ("", 0, False),
    ],
)
def test_a_hash_is_symmetric_by_its_key_or_its_input(
    key: str, transform: int, symmetric: bool
) -> None:
    assert ReceiveHash(bytes.fromhex(key), transform).is_symmetric == symmetric
