"""Where the server listens, and what it says where it cannot."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf import Netring
from netring_bpf.errors import AddressInUseError, AddressUnavailableError, OptionError
from netring_bpf.web import serve
from netring_bpf.web.listen import Listen, is_loopback, resolve
from tests.support.replay import Frame
from tests.support.savefiles import pcap
from tests.support.web import TOKEN


@pytest.mark.parametrize(
    ("text", "read", "loopback"),
    [
        ("127.0.0.1:8080", Listen("127.0.0.1", 8080), True),
        ("127.9.9.9:1", Listen("127.9.9.9", 1), True),
        ("[::1]:0", Listen("::1", 0), True),
        ("0.0.0.0:80", Listen("0.0.0.0", 80), False),
        ("[::]:80", Listen("::", 80), False),
        ("192.0.2.1:65535", Listen("192.0.2.1", 65535), False),
    ],
)
def test_an_address_is_read_and_written(text: str, read: Listen, loopback: bool) -> None:
    assert Listen.read(text) == read
    assert str(read) == text
    assert resolve(read) == [read]
    assert is_loopback(read) is loopback


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:80",
     "[::1:80", "127.0.0.1:-1", "a b:80", "127.0.0.1:\u0661", "[127.0.0.1]:80", "http://a:80"],
)  # fmt: skip
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        Listen.read(text)
    assert caught.value.option == "listen"


def enter(path: Path, listen: str, **options: object) -> tuple[str, ...]:
    path.write_bytes(pcap([Frame(bytes(60))]))

    async def run() -> tuple[str, ...]:
        async with (
            Netring.replay(path, stats=True) as ring,
            serve(ring, listen, **options) as server,
        ):  # type: ignore[arg-type]
            return server.addresses

    return asyncio.run(run())


def test_a_name_of_loopback_needs_no_token(tmp_path: Path) -> None:
    addresses = enter(tmp_path / "file", "localhost:0")
    assert {address.rpartition(":")[0] for address in addresses} <= {"127.0.0.1", "[::1]"}
    assert len({address.rpartition(":")[2] for address in addresses}) == 1


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_an_address_that_others_reach_needs_a_token(listen: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs a token"):
        enter(tmp_path / "file", listen)
    assert len(enter(tmp_path / "file", listen, token=TOKEN)) == 1


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressInUseError, match="another program listens there") as caught:
            enter(tmp_path / "file", listen)
    assert caught.value.address == listen


@pytest.mark.parametrize("listen", ["192.0.2.77:0", "a..b:80"])
def test_an_address_of_another_machine_is_told(listen: str, tmp_path: Path) -> None:
    with pytest.raises(AddressUnavailableError) as caught:
        enter(tmp_path / "file", listen, token=TOKEN)
    assert caught.value.address == listen


def test_without_aiohttp_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "import netring_bpf.cli.serve, netring_bpf.web\n"
        "try: netring_bpf.web.serve\n"
        "except netring_bpf.errors.PackageMissingError as error: print(error.package, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == (
        'aiohttp serve a page: aiohttp is not installed; pip install "netring-bpf[web]"\n'
    )


def test_a_capture_without_stats_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pcap([]))
    with pytest.raises(OptionError, match="stats=True"):
        serve(Netring.replay(tmp_path / "file"))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"names": "edge.lan"}, "names"),
        ({"names": ["b\u00fcro"]}, "names"),
        ({"max_viewers": 0}, "max_viewers"),
        ({"token": "short"}, "token"),
        ({"token": "with a blank in the middle"}, "token"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, object], option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pcap([]))
    with pytest.raises(OptionError) as caught:
        serve(Netring.replay(tmp_path / "file", stats=True), **options)  # type: ignore[arg-type]
    assert caught.value.option == option
