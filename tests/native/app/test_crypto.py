"""libcrypto as the C core opens it: known answers, what is missing, and the budget."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sanitized import link
from tests.support.sizes import size

CLIENT_SECRET = "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"
INITIAL_SECRET = "7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44"
# Test case 4 of the GCM specification, which has a header; the tag is behind the bytes.
GCM_KEY = "feffe9928665731c6d6a8f9467308308"
GCM_NONCE = "cafebabefacedbaddecaf888"
GCM_HEADER = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
GCM_SEALED = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa0"
    "51ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47"
)
GCM_OPENED = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b52"
    "5b16aedf5aa0de657ba637b39"
)

Say = Callable[..., list[str]]


@pytest.fixture(scope="session")
def say(tmp_path_factory: pytest.TempPathFactory) -> Say:
    """A function that gives the program its lines, and returns those that it prints."""
    program = tmp_path_factory.mktemp("crypto") / "crypto"
    link(program, Path(__file__).parent / "crypto_parse.c", "-Wl,--wrap=dlopen")

    def run(*lines: str, **environment: str) -> list[str]:
        done = subprocess.run(
            [program],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        return done.stdout.splitlines()

    return run


def test_digests_are_those_of_hashlib(say: Say) -> None:
    texts = [b"", b"abc", b"x" * 64, bytes(range(256)) * 64]
    lines = [f"{name} {text.hex() or '-'}" for text in texts for name in ("sha256", "md5")]
    expected = [hashlib.new(name, text).hexdigest() for text in texts for name in ("sha256", "md5")]
    assert say(*lines) == expected


def test_keys_are_those_of_rfc_9001(say: Say) -> None:
    assert say(
        "extract 38762cf7f55934b34d179ae6a4c80cadccbb7f0a 8394c8f03e515708",
        f"expand {INITIAL_SECRET} 32 client_in",
        f"expand {INITIAL_SECRET} 32 server_in",
        f"expand {CLIENT_SECRET} 16 quic_key",
        f"expand {CLIENT_SECRET} 12 quic_iv",
        f"expand {CLIENT_SECRET} 16 quic_hp",
        "aes 9f50449e04a0e810283a1e9933adedd2 d1b1c98dd7689fb8ec11d242b123dc9b",
        "books",
    ) == [
        INITIAL_SECRET,
        CLIENT_SECRET,
        "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b",
        "1f369613dd76d5467730efcbe3b1a22d",
        "fa044b2f42a3fd3b46fb255c",
        "9f50449e04a0e810283a1e9933adedd2",
        "437b9aec36be423400cdd115d9db3241",
        "errors=0 left_out=0 prints_left_out=0",
    ]


def test_a_seal_opens_only_as_it_was_made(say: Say) -> None:
    def line(
        key: str = GCM_KEY,
        nonce: str = GCM_NONCE,
        header: str = GCM_HEADER,
        sealed: str = GCM_SEALED,
    ) -> str:
        return f"unseal {key} {nonce} {header} {sealed}"

    wrong = [
        line(key="00" * 16),
        line(nonce="00" * 12),
        line(header="-"),
        line(sealed="00" + GCM_SEALED[2:]),
        line(sealed=GCM_SEALED[:-2] + "00"),
        line(sealed=GCM_SEALED[-32:]),
    ]
    lines = [text for other in wrong for text in (other, line())]
    expected = ["no", GCM_OPENED] * len(wrong)
    assert say(*lines, "books") == [*expected, "errors=0 left_out=0 prints_left_out=0"]


def test_an_empty_seal_opens(say: Say) -> None:
    tag = "58e2fccefa7e3061367f1d57a4e7455a"  # test case 1 of the GCM specification
    assert say(f"unseal {'00' * 16} {'00' * 12} - {tag}") == [""]


def test_a_label_or_an_output_that_is_too_long_gives_nothing(say: Say) -> None:
    assert say(
        f"expand {INITIAL_SECRET} 16 {'x' * 33}", f"expand {INITIAL_SECRET} 33 client_in"
    ) == ["no", "no"]


def test_without_libcrypto_there_is_none(say: Say) -> None:
    assert say("books", ONLY="libother.so") == ["missing: No such file or directory"]


def test_a_limit_on_open_files_is_told_apart(say: Say) -> None:
    assert say("books", FILES="3") == ["missing: Too many open files"]


def test_the_budget_fills_with_packet_time(say: Say) -> None:
    start = 5_000_000_000
    assert say(
        "limit 1000",
        f"open {start} 1001",
        f"open {start + 500_000_000} 1000",
        f"open {start + 500_400_000} 1",  # not yet
        f"open {start + 500_900_000} 1",
        f"open {start + 501_000_000} 2",  # what was left of a step counts on
        f"open {start + 500_000_000} 1",  # a packet out of order
        f"open {start + 501_999_999} 1",
        f"open {start + 502_000_000} 1",
        "open 1000000000 1",  # a clock that was set back gives nothing
        "open 1001000000 2",
        "books",
    ) == [
        "ok",
        "1000",
        "500",
        "0",
        "0",
        "1",
        "0",
        "0",
        "1",
        "0",
        "1",
        "errors=0 left_out=508 prints_left_out=0",
    ]


def test_openings_and_fingerprints_have_a_budget_each(say: Say) -> None:
    start = 5_000_000_000
    assert say(
        f"print {start} 10001",
        f"open {start} 10002",
        f"print {start + 500_000_000} 5001",
        f"print {start + 500_099_999} 1",
        f"print {start + 500_100_000} 2",
        "books",
    ) == ["10000", "10000", "5000", "0", "1", "errors=0 left_out=2 prints_left_out=4"]


def test_a_budget_of_nothing_allows_nothing(say: Say) -> None:
    assert say("limit 0", "open 5000000000 3", "open 5100000000 1", "open 9000000000 1") == [
        "ok",
        "0",
        "0",
        "0",
    ]


@settings(max_examples=size(20, 200), deadline=None)
@given(
    per_second=st.integers(1, 5000),
    steps=st.lists(st.tuples(st.integers(0, 400_000_000), st.integers(0, 2000)), max_size=20),
)
def test_no_second_gets_more_than_twice_the_budget(
    say: Say, per_second: int, steps: list[tuple[int, int]]
) -> None:
    now, lines, times = 5_000_000_000, [f"limit {per_second}"], []
    for wait, wanted in steps:
        now += wait
        times.append(now)
        lines.append(f"open {now} {wanted}")
    allowed = [int(text) for text in say(*lines)[1:]]
    for i, begin in enumerate(times):
        within = sum(n for ts, n in zip(times[i:], allowed[i:], strict=True) if ts < begin + 10**9)
        assert within <= 2 * per_second
