"""The name that a responder of multicast DNS announces, on the wire and in a file of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from netring_bpf import DnsDetails
from tests.kernel.app.addresses import SERVER
from tests.kernel.app.conversation import Conversation
from tests.kernel.app.witnesses import LIVE, watch
from tests.support.hub import Hub

pytestmark = [
    pytest.mark.requires("root", "netns", "bcc", "clients", "avahi"),
    pytest.mark.long,
]


def test_avahi_announces_its_name_and_answers(tmp_path: Path) -> None:
    said = []
    with Hub() as hub:
        talk = Conversation(hub, tmp_path)

        def ask() -> None:
            with talk.avahi("printer"):
                said.append(talk.run("dig", "+short", f"@{SERVER}", "-p", "5353", "printer.local"))

        told = watch(hub, tmp_path / "wire.pcapng", ask)
    assert said == [f"{SERVER}\n"]
    for way in LIVE:
        assert told[way] == told["file"], way
    answers = {
        (answer.owner, answer.type, answer.ttl, answer.data)
        for app in told["native"].all("mdns")
        if isinstance(app.details, DnsDetails)
        for answer in app.details.answers
    }
    for ttl in (120, 10):  # announced to all, and answered to one who is no responder
        assert ("printer.local", "A", ttl, SERVER) in answers
