"""Loading the XDP program: what it leaves as it was, what it needs, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf.bpf import compiler, program
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Program
from netring_bpf.errors import CompileError, FilterError, ProgramError, VerifierError
from netring_bpf.filter.filter_set import FilterSet
from tests.support.lab import Namespace
from tests.support.ordinary_user import OrdinaryUser
from tests.support.rig import wire
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

BCC = "/usr/lib/python3/dist-packages/bcc"
CHILD = """
import sys
from netring_bpf import Capture, NetringError, TpacketOptions, XdpOptions
options = {
    "xdp": XdpOptions(ring_size=64, chunks=128),
    "tpacket": TpacketOptions(block_size=1 << 16, block_count=2),
}
for backend in ("af_xdp", "auto"):
    try:
        with Capture("vb", filter=sys.argv[1], backend=backend, **options) as capture:
            print(capture.backend, capture.attach, capture.fallback_reason, sep="|")
    except NetringError as error:
        print(type(error).__name__, getattr(error, "capability", None), error, sep="|")
"""

UNSAFE = """
#define NETRING_FILTER 1
static __always_inline int netring_filter(struct xdp_md *ctx) {
    return *(u8 *)(long)ctx->data;
}
"""


def load(expression: str = "tcp") -> None:
    with Maps(1) as maps, Program.load(FilterSet.of(expression), maps):
        pass


def lines_of(namespace: Namespace, command: list[str]) -> list[list[str]]:
    """The two lines of CHILD, for af_xdp and for auto, each in its three fields."""
    lines = [line.split("|", 2) for line in namespace.run(command).stdout.splitlines()]
    assert len(lines) == 2
    return lines


def with_bcc_replaced(namespace: Namespace, *, by: str) -> list[list[str]]:
    """The same where the machine's BCC is hidden, in a mount namespace, by what ``by`` makes."""
    hide = f'mount -t tmpfs netring-test {BCC} && cd {BCC} && {by} && cd / && exec "$@"'
    child = [sys.executable, "-c", CHILD, "tcp port 80"]
    return lines_of(namespace, ["unshare", "--mount", "sh", "-c", hide, "sh", *child])


def as_user(
    user: OrdinaryUser,
    namespace: Namespace,
    *capabilities: str,
    expression: str = "tcp port 80",
) -> list[list[str]]:
    """The same as an ordinary user that has these capabilities."""
    return lines_of(namespace, user.command(CHILD, expression, capabilities=capabilities))


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("true", "load BCC: not found on this machine"),
        ("echo VERSION=1 >__init__.py", f"'bcc' in {BCC} is not the BPF compiler collection"),
        ("echo 'import ctypes; ctypes.CDLL(\"libbcc.so.none\")' >__init__.py", "libbcc.so.none"),
    ],
    ids=["missing", "another package of that name", "broken"],
)
def test_without_a_usable_bcc_the_error_names_the_package_to_install(by: str, words: str) -> None:
    with wire() as namespace:
        forced, auto = with_bcc_replaced(namespace, by=by)
        assert forced[0] == "BccMissingError"
        assert words in forced[2]
        assert "apt-get install python3-bpfcc" in forced[2]
        assert auto == ["tpacket_v3", "None", forced[2]]


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (("net_raw", "net_admin"), "CAP_BPF"),
        (("net_raw", "bpf"), "CAP_NET_ADMIN"),
        (("net_raw",), "CAP_NET_ADMIN, CAP_BPF"),
    ],
)
def test_a_missing_capability_is_named(
    ordinary_user: OrdinaryUser, held: tuple[str, ...], missing: str
) -> None:
    with wire() as namespace:
        forced, auto = as_user(ordinary_user, namespace, *held)
        assert forced[:2] == ["PermissionDeniedError", missing]
        assert f"the process lacks {missing}; run it as root" in forced[2]
        assert auto == ["tpacket_v3", "None", forced[2]]


def test_without_any_capability_there_is_no_backend(ordinary_user: OrdinaryUser) -> None:
    with wire() as namespace:
        forced, auto = as_user(ordinary_user, namespace)
        assert forced[:2] == ["PermissionDeniedError", "CAP_NET_ADMIN, CAP_BPF"]
        assert auto[:2] == ["PermissionDeniedError", "CAP_NET_RAW"]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "ip[ip[0] & 15] % 3 = 1",
        *size((), ("tcp port 80", "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420")),
    ],
)
def test_three_capabilities_are_enough(ordinary_user: OrdinaryUser, expression: str) -> None:
    with wire() as namespace:
        held = ("bpf", "net_admin", "net_raw")
        for line in as_user(ordinary_user, namespace, *held, expression=expression):
            assert line == ["af_xdp", "native", "None"]


def test_the_loading_process_is_left_as_it_was() -> None:
    before = os.getcwd(), dict(os.environ)
    with Maps(1) as maps, Program.load(FilterSet.of("tcp"), maps) as loaded:
        for descriptor in (loaded.fd, *maps.descriptors.values()):
            assert not os.get_inheritable(descriptor)
    assert (os.getcwd(), dict(os.environ)) == before
    libraries = Path("/proc/self/maps").read_text()
    assert "LLVM" not in libraries
    assert "libbcc" not in libraries


def test_a_program_the_verifier_refuses_says_why_and_keeps_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "to_c", lambda *_: UNSAFE)
    with pytest.raises(VerifierError) as caught:
        load()
    message = str(caught.value)
    assert "the kernel's verifier refused it" in message
    assert "invalid access to packet" in message
    assert "backend='tpacket_v3'" in message
    assert len(message) < 500
    assert "processed " not in message
    assert "processed " in caught.value.log


def test_a_program_the_compiler_refuses_says_why_and_keeps_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "to_c", lambda *_: "int wrong(void) { return nothing; }\n")
    with pytest.raises(CompileError) as caught:
        load()
    assert "use of undeclared identifier 'nothing'" in str(caught.value)
    assert "int wrong(void) { return nothing; }" in caught.value.log


def test_a_map_the_kernel_refuses_is_named_with_the_kernel_s_reason() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ProgramError, match="create its map 'xsks_map': Invalid argument") as caught:
        Maps(0)
    assert len(os.listdir("/proc/self/fd")) == before
    assert type(caught.value) is ProgramError


def test_a_helper_that_dies_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "helper.py").write_text("raise SystemExit('out of luck')\n")
    monkeypatch.setattr(compiler, "_HERE", tmp_path)
    monkeypatch.setenv("NETRING_BPF_CACHE", "")
    with pytest.raises(ProgramError, match="ended with status 1: out of luck"):
        load()


def test_a_helper_that_does_not_end_is_an_error_and_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "helper.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.setattr(compiler, "_HERE", tmp_path)
    monkeypatch.setenv("NETRING_BPF_CACHE", "")
    monkeypatch.setattr(compiler, "_TIMEOUT", 0.5)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ProgramError, match="was not done in"):
        load()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_kernel_cannot_run_is_refused_before_anything_is_compiled() -> None:
    with pytest.raises(FilterError, match="jumps backwards"):
        load("ip6 protochain 6")


def test_bcc_is_still_what_this_machine_has() -> None:
    """The mounts above were private."""
    done = subprocess.run(["/usr/bin/python3", "-c", "import bcc; bcc.BPF"], check=False)
    assert done.returncode == 0
