"""``netring-bpf interfaces``, and ``-D``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from tests.kernel.cli.command import COMMAND, run
from tests.support.lab import Namespace
from tests.support.ordinary_user import OrdinaryUser
from tests.support.rig import PORT, SENDER, wire

pytestmark = pytest.mark.requires("root", "netns", "bcc")

MAIN = "from netring_bpf.cli import main; main()"
HOSTILE = "e\x1b[2J\x9b"


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """A free port, one with an address that is down, and one with a hostile name."""
    with wire() as ns:
        ns.ip(f"address add 192.0.2.1/24 dev {SENDER}")
        ns.ip("link add br7 address 02:00:00:00:00:07 type bridge")
        with ns.enter(), IPRoute() as route:
            route.link("add", ifname=HOSTILE, kind="bridge")
        yield ns


def test_every_interface_is_a_record_with_what_auto_does(namespace: Namespace) -> None:
    done = run(namespace, "interfaces", "--json")
    assert (done.status, done.err) == (0, [])
    found = {record["name"]: record for record in done.records}
    assert set(found) == {"lo", SENDER, PORT, "br7", HOSTILE}
    assert [record["index"] for record in done.records] == sorted(
        record["index"] for record in done.records
    )
    port = found[PORT]
    assert (port["state"], port["kind"], port["driver"], port["mtu"]) == (
        "up",
        "veth",
        "veth",
        1500,
    )
    assert (port["queues"], port["addresses"], port["xdp_program"]) == (1, [], None)
    assert port["auto"] == {"backend": "af_xdp", "attach": "native", "reason": None}
    assert {"basic", "redirect"} <= set(port["xdp_features"])
    sender = found[SENDER]
    assert sender["addresses"] == ["192.0.2.1/24"]
    assert sender["auto"]["backend"] == "tpacket_v3"
    assert "it has the address 192.0.2.1/24" in sender["auto"]["reason"]
    bridge = found["br7"]
    assert (bridge["state"], bridge["mac"]) == ("down", "02:00:00:00:00:07")
    assert bridge["auto"] == {
        "backend": None,
        "attach": None,
        "reason": "capture on br7: it is down; bring it up (ip link set dev br7 up)",
    }


@pytest.mark.parametrize("arguments", [["interfaces"], ["-D"], ["flows", "-D"]], ids=" ".join)
def test_the_list_is_for_people_and_fits_the_terminal(
    namespace: Namespace, arguments: list[str]
) -> None:
    done = namespace.run(["env", "COLUMNS=60", COMMAND, *arguments])
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 60
    heads = [line.split(":")[0] for line in lines if not line.startswith(" ")]
    assert heads[0] == "1. lo"
    assert {head.split(". ")[1] for head in heads} == {
        "lo", SENDER, PORT, "br7", r"e\x1b[2J\x9b",
    }  # fmt: skip
    assert "    auto: af_xdp, native XDP" in lines
    assert done.stderr == ""


def test_a_user_without_rights_has_the_list(
    namespace: Namespace, ordinary_user: OrdinaryUser
) -> None:
    command = ordinary_user.command(MAIN, "interfaces", capabilities=())
    done = namespace.run(command)
    assert f"{PORT}: up, veth, MTU 1500, 1 receive queue" in done.stdout
    assert "auto: fails: open an AF_PACKET socket on" in done.stdout
    assert "the process lacks CAP_NET_RAW" in done.stdout


def test_a_name_that_is_no_text_is_listed(namespace: Namespace) -> None:
    name = b"e\xff"
    with namespace.enter(), IPRoute() as route:
        route.link("add", ifname=name, kind="bridge")
    try:
        done = run(namespace, "interfaces", "--json")
        assert os.fsdecode(name) in {record["name"] for record in done.records}
        assert r"e\xff: down" in namespace.run([COMMAND, "interfaces"]).stdout
    finally:
        with namespace.enter(), IPRoute() as route:
            [index] = [r["index"] for r in done.records if r["name"] == os.fsdecode(name)]
            route.link("del", index=index)
