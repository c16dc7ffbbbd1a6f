"""The names that a browser asks for: the same from each backend and from a file of that wire."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest

from netring_bpf import App, TlsDetails
from tests.kernel.app.conversation import Conversation
from tests.kernel.app.hellos import fingerprints
from tests.kernel.app.witnesses import LIVE, Told, watch
from tests.support.hub import Hub

pytestmark = [
    pytest.mark.requires("root", "netns", "bcc", "clients", "browser"),
    pytest.mark.long,
]


def chromium(talk: Conversation, name: str, *options: str) -> str:
    """Read a page by a browser that was never used before; return it."""
    return talk.run(
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", f"--user-data-dir={talk.folder / name}",
        f"--ignore-certificate-errors-spki-list={key_digest(talk.certificates.server)}",
        *options, "--dump-dom", f"https://{name}/",
    )  # fmt: skip


def key_digest(certificate: Path) -> str:
    """What stands for the key of a certificate in the browser's option."""
    command = f"openssl x509 -in {certificate} -pubkey -noout | openssl pkey -pubin -outform der"
    key = subprocess.run(["sh", "-c", command], check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def test_chromium_asks_for_names_by_tls_and_by_quic(tmp_path: Path) -> None:
    pages = []
    with Hub() as hub:
        talk = Conversation(hub, tmp_path)

        def browse() -> None:
            with talk.servers():
                pages.append(chromium(talk, "tcp.example"))
                quic = "--origin-to-force-quic-on=udp.example:443"
                pages.append(chromium(talk, "udp.example", "--enable-quic", quic))

        told = watch(hub, tmp_path / "wire.pcapng", browse)
    assert all("<title>hello</title>" in page for page in pages)
    for way in LIVE:
        assert told[way] == told["file"], way
    check(told["native"], tmp_path / "wire.pcapng")


def check(told: Told, file: Path) -> None:
    tls, quic = told.all("tls", "tcp.example"), told.all("quic", "udp.example")
    assert tls
    assert quic
    assert {app.version for app in tls} == {"TLSv1.3"}
    assert {app.version for app in quic} == {"QUICv1"}
    assert {offered(app) for app in tls} == {("h2", "http/1.1")}
    assert {offered(app) for app in quic} == {("h3",)}
    ours: dict[str | None, set[str | None]] = {}
    for app in (*told.all("tls"), *told.all("quic")):  # those of the browser's maker among them
        ours.setdefault(app.name, set()).add(app.ja4)
    assert ours == fingerprints(file)


def offered(app: App) -> tuple[str, ...]:
    assert isinstance(app.details, TlsDetails)
    return app.details.alpn_offered
