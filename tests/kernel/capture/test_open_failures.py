"""What stands in the way of a capture is named, with a remedy, and nothing is left open."""

from __future__ import annotations

import pytest

from netring_bpf import Capture, XdpMode, XdpOptions
from netring_bpf.errors import KernelFeatureError
from tests.support.failing import TIMES, Failure, fail
from tests.support.lab import Namespace, xdp_attached
from tests.support.rig import PORT, SENDER, wire

pytestmark = pytest.mark.requires("root", "netns", "bcc")

BOTH = pytest.mark.parametrize("way", ["af_xdp", "tpacket_v3"])
DENIED = "Operation not permitted, though the process has {}: a seccomp filter denies the call"


def failure(situation: str, way: str) -> Failure:
    """The situation on a port of our own; no descriptor and no program stays."""
    with wire() as namespace:
        outcome = fail(namespace, situation, way)
        assert not xdp_attached(namespace, PORT)
    assert outcome.after == outcome.before
    assert [error for error in outcome.errors if not error["ours"]] == []
    return outcome


@BOTH
@pytest.mark.parametrize("resource", ["descriptors", "memory"])
def test_whichever_call_lacks_descriptors_or_memory_says_so(resource: str, way: str) -> None:
    outcome = failure(resource, way)
    assert outcome.attempts >= TIMES
    assert outcome.types == {"ResourceLimitError"}
    assert {error["resource"] for error in outcome.errors} == {resource}
    remedy = {"descriptors": "(ulimit -n, systemd: LimitNOFILE=)", "memory": "(ulimit -v, systemd"}
    assert all(remedy[resource] in error["text"] for error in outcome.errors)
    assert {opened.split(":")[0] for opened in outcome.opened} == {way}


@BOTH
def test_a_flow_table_larger_than_the_memory_is_named(way: str) -> None:
    outcome = failure("large table", way)
    assert [error["text"].split(";")[0] for error in outcome.errors] == [
        "make a flow table of 67108864 flows: Cannot allocate memory"
    ]
    assert outcome.types == {"ResourceLimitError"}


@pytest.mark.parametrize("situation", ["bpf denied", "entered"])
def test_bpf_that_a_seccomp_filter_denies_is_no_lack_of_capabilities(situation: str) -> None:
    outcome = failure(situation, "af_xdp")
    assert outcome.types == {"PermissionDeniedError"}
    [error] = outcome.errors
    assert error["capability"] == ""
    assert DENIED.format("CAP_BPF, CAP_NET_ADMIN") in error["text"]
    assert "SystemCallFilter=" in error["text"]


def test_bpf_that_a_seccomp_filter_hides_is_named_too() -> None:
    outcome = failure("bpf hidden", "af_xdp")
    assert outcome.types == {"KernelFeatureError"}
    assert "Function not implemented: a seccomp filter hides it" in outcome.texts


@pytest.mark.parametrize(
    ("situation", "text"),
    [
        ("links unknown", "Invalid argument; attaching by a bpf_link needs Linux 5.9 or newer"),
        ("AF_XDP unknown", "not supported by protocol; AF_XDP needs Linux 5.11 or newer"),
    ],
)
def test_a_kernel_that_is_too_old_says_which_one_is_needed(situation: str, text: str) -> None:
    old = ["setarch", "--uname-2.6"]  # the kernel calls itself 2.6.60 or more
    with wire() as namespace:
        outcome = fail(namespace, situation, "af_xdp", before=old)
        release = namespace.run([*old, "uname", "-r"]).stdout.strip()
        falling_back = fail(namespace, situation, "auto", before=old)
    assert outcome.types == {"KernelFeatureError"}
    assert f"{text}, and this is Linux {release}; choose backend='tpacket_v3'" in outcome.texts
    assert falling_back.errors == []
    assert all(opened.startswith("tpacket_v3: ") for opened in falling_back.opened)


@pytest.mark.parametrize("situation", ["links unknown", "AF_XDP unknown"])
def test_a_kernel_that_is_new_enough_is_not_called_old(situation: str) -> None:
    outcome = failure(situation, "af_xdp")
    assert outcome.types == {"KernelFeatureError"}
    assert "or newer, and this is Linux" not in outcome.texts


def test_the_capabilities_of_a_user_namespace_are_told_from_those_of_the_machine() -> None:
    wire_inside = (
        f"ip link add {SENDER} type veth peer name {PORT} && ip link set {SENDER} up && "
        f'ip link set {PORT} up && exec "$@"'
    )
    with Namespace() as namespace:
        inside = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", wire_inside, "sh"]
        outcome = fail(namespace, "plain", "af_xdp", before=inside)
        listening = fail(namespace, "plain", "tpacket_v3", before=inside)
    assert outcome.types == {"PermissionDeniedError"}
    assert "its capabilities are those of a user namespace" in outcome.texts
    assert listening.errors == []


def test_auto_falls_back_where_bpf_is_denied_and_says_why() -> None:
    outcome = failure("bpf denied", "auto")
    assert outcome.errors == []
    assert len(outcome.opened) == TIMES
    assert all(opened.startswith("tpacket_v3: ") for opened in outcome.opened)
    assert all("a seccomp filter denies the call" in opened for opened in outcome.opened)


@BOTH
def test_packet_sockets_that_a_seccomp_filter_denies(way: str) -> None:
    outcome = failure("packet sockets denied", way)
    assert outcome.types == {"PermissionDeniedError"}
    assert DENIED.format("CAP_NET_RAW") in outcome.texts


def test_a_map_that_cannot_be_read_while_closing_is_told_and_all_is_closed() -> None:
    outcome = failure("closing", "af_xdp")
    assert outcome.types == {"PermissionDeniedError"}
    assert "read entry 0 of map 'counters': " in outcome.texts
    assert outcome.opened == ["af_xdp: closed"]


# -- file systems --


def in_mounts(namespace: Namespace, way: str, *mounts: str, cache: str = "") -> Failure:
    """Open in a mount namespace of its own, after these commands; the program is not cached.

    ``cache``: a folder that cannot be made.
    """
    script = " && ".join(["mount --make-rprivate /", *mounts, 'exec "$@"'])
    before = ["unshare", "--mount", "sh", "-c", script, "sh", "env", f"NETRING_BPF_CACHE={cache}"]
    return fail(namespace, "plain", way, before=before)


@BOTH
def test_a_capture_needs_no_sysfs(way: str) -> None:
    with wire() as namespace:
        outcome = in_mounts(namespace, way, "umount --recursive --lazy /sys")
    assert outcome.errors == []
    assert [opened.split(":")[0] for opened in outcome.opened] == [way] * 2


@BOTH
def test_a_capture_writes_to_no_file_system(way: str) -> None:
    read_only = [
        "mount -o remount,bind,ro /",
        *(f"mount -t tmpfs -o ro none {place}" for place in ("/var/tmp", "/dev/shm")),
    ]
    with wire() as namespace:
        outcome = in_mounts(namespace, way, *read_only, cache="/cache")
    assert outcome.errors == []
    assert [opened.split(":")[0] for opened in outcome.opened] == [way] * 2


# -- a cable --


def test_a_veth_peer_with_more_transmit_queues_is_named_by_its_remedy() -> None:
    with Namespace() as namespace:
        namespace.ip(
            f"link add {PORT} numrxqueues 1 numtxqueues 1 type veth "
            f"peer name {SENDER} numrxqueues 1 numtxqueues 4"
        )
        namespace.ip(f"link set {PORT} up")
        namespace.ip(f"link set {SENDER} up")
        why = (
            "native mode refused: No space left on device: the other end of the cable has more "
            "transmit queues than this one has receive queues; make them even (ethtool -L NAME "
            "rx N here, tx N there)"
        )
        with pytest.raises(KernelFeatureError) as caught:
            Capture(
                PORT,
                backend="af_xdp",
                netns=namespace.path,
                xdp=XdpOptions(mode=XdpMode.NATIVE),
            ).open()
        assert str(caught.value) == (f"attach XDP to {PORT}: {why}; choose backend='tpacket_v3'")
        with Capture(PORT, backend="af_xdp", netns=namespace.path) as capture:
            assert (capture.attach, capture.attach_reason) == ("generic", why)
