"""The names that real programs send: the same from each backend and from a file of that wire."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netring_bpf import (
    App,
    DhcpDetails,
    DnsAnswer,
    DnsDetails,
    FiveTuple,
    HttpDetails,
    MqttDetails,
    SshDetails,
    TlsDetails,
)
from tests.kernel.app.addresses import LEASED, PORTS, SERVER, SERVER6, SSH_BANNER
from tests.kernel.app.conversation import Conversation, python
from tests.kernel.app.hellos import fingerprints
from tests.kernel.app.witnesses import FLOWS, LIVE, Told, tell, watch
from tests.support.hub import PORT, Hub
from tests.support.replay import replay_file

pytestmark = pytest.mark.requires("root", "netns", "bcc", "broker", "clients")

ARGUMENTS_OF_SSH = (
    "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
)  # fmt: skip


@dataclass(frozen=True)
class Heard:
    """The tales of the witnesses, and their file."""

    told: Mapping[str, Told]
    file: Path

    def by(self, way: str) -> Told:
        return self.told[way]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    folder = tmp_path_factory.mktemp("programs")
    file = folder / "wire.pcapng"
    with Hub() as hub:
        talk = Conversation(hub, folder)

        def all_talk() -> None:
            with talk.servers(), talk.dtls_server(), talk.dhcp_server(), talk.broker() as broker:
                talk_http(talk)
                talk_tls(talk)
                talk_names(talk)
                talk.run(*python("http3"), "1:quic1.example", "2:quic2.example")
                talk.run("ssh", *ARGUMENTS_OF_SSH, "ssh.example", status=255)
                port = str(broker.port)
                talk.run(
                    "mosquitto_pub", "-h", SERVER, "-p", port, "-V", "5", "-i", "sensor-1",
                    "-t", "topic", "-m", "message",
                )  # fmt: skip
                talk.run(
                    "busybox", "udhcpc", "-i", PORT, "-n", "-q", "-f", "-s", "/bin/true",
                    "-x", "hostname:laptop", "-V", "maker of laptops",
                )  # fmt: skip

        return Heard(watch(hub, file, all_talk), file)


def talk_http(talk: Conversation) -> None:
    at = "http://web.example"
    talk.curl(
        "-A", "agent/1", f"{at}/first?x=1", f"{at}/chunks",
        "--next", "-I", f"{at}/head",
        "--next", "-d", "a=b", f"{at}/form",
        "--next", f"{at}/missing",
    )  # fmt: skip
    talk.curl(f"http://port.example:{PORTS['odd http']}/")
    talk.curl("--http2-prior-knowledge", f"http://h2c.example:{PORTS['h2c']}/")


def talk_tls(talk: Conversation) -> None:
    talk.curl("https://plain.example/")
    talk.curl("--tls-max", "1.2", "--http1.1", "https://tls12.example/")
    talk.curl("--tlsv1.3", "https://tls13.example/")
    talk.curl("--no-alpn", f"https://odd.example:{PORTS['old']}/")
    talk.curl("--tls-max", "1.2", f"https://refused.example:{PORTS['new']}/", status=35)
    talk.curl("-6", "https://six.example/")
    talk.curl("--ssl-reqd", "-X", "NOOP", "smtp://mail.example/")
    talk.curl("-x", f"http://proxy.example:{PORTS['proxy']}", "https://hidden.example/")
    session = str(talk.folder / "session")
    for option in ("-sess_out", "-sess_in"):
        talk.openssl(PORTS["https"], "again.example", "-tls1_2", option, session)
    talk.openssl(PORTS["dtls"], "dtls.example", "-dtls1_2")


def talk_names(talk: Conversation) -> None:
    for question in (
        ["alias.example"], ["+tcp", "stream.example"], ["missing.example"], ["six.example", "AAAA"],
        ["mail.example", "MX"], ["long.example", "TXT"],
    ):  # fmt: skip
        talk.run("dig", *question)
    talk.run("getent", "ahosts", "both.example")


def first(told: Told, protocol: str, name: str | None = None) -> App:
    """The protocol of the one flow that begins with this."""
    [app] = told.ended[told.flow(protocol, name)]
    assert app is not None
    return app


def told_by(app: App) -> tuple[str | None, ...]:
    return app.version, app.alpn, app.carrier


def tls(app: App) -> TlsDetails:
    assert isinstance(app.details, TlsDetails)
    return app.details


def test_each_backend_tells_the_same_as_the_file(heard: Heard) -> None:
    for way in LIVE:
        assert heard.by(way) == heard.by("file"), way


def test_a_flow_keeps_its_first_exchange_and_counts_all(heard: Heard) -> None:
    told = heard.by("native")
    labels = {key: apps for key, apps in told.ended.items() if key not in told.exchanges}
    assert {app.protocol for [app] in labels.values() if app is not None} == {"http2"}
    for key, exchanges in told.exchanges.items():
        assert [app.count for app in exchanges] == list(range(1, len(exchanges) + 1))
        [kept] = told.ended[key]
        assert kept is not None
        assert kept.count == len(exchanges)
        if len(exchanges) == 1:
            assert kept == exchanges[0]
        assert (kept.name, kept.details) == (exchanges[0].name, exchanges[0].details)


def test_labels_alone_have_no_names(heard: Heard) -> None:
    whole = heard.by("file")
    labels = tell(replay_file(heard.file, replace(FLOWS, names="service")).events)
    assert labels.exchanges == {}
    assert set(labels.servers.values()) == {None}
    expected = {
        key: [app and App("smtp" if app.carrier == "smtp" else app.protocol) for app in apps]
        for key, apps in whole.ended.items()
    }
    assert labels.ended == expected
    nothing = tell(replay_file(heard.file, replace(FLOWS, names="off")).events)
    assert nothing.exchanges == {}
    assert nothing.ended == {key: [None] for key in whole.ended}


@pytest.mark.parametrize(
    ("name", "port", "version", "alpn", "carrier"),
    [
        ("plain.example", "https", "TLSv1.3", None, None),  # what it chose is encrypted
        ("tls12.example", "https", "TLSv1.2", "http/1.1", None),
        ("tls13.example", "https", "TLSv1.3", None, None),
        ("odd.example", "old", "TLSv1.2", None, None),
        ("refused.example", "new", None, None, None),
        ("six.example", "https", "TLSv1.3", None, None),
        ("mail.example", "smtp", "TLSv1.3", None, "smtp"),
        ("hidden.example", "proxy", "TLSv1.3", None, "http"),
    ],
)
def test_curl_asks_for_a_name_by_tls(
    heard: Heard, name: str, port: str, version: str | None, alpn: str | None, carrier: str | None
) -> None:
    told = heard.by("native")
    [(key, app)] = [
        (key, app)
        for key, apps in told.exchanges.items()
        for app in apps
        if (app.protocol, app.name) == ("tls", name)
    ]
    assert (key.resp.text, key.resp.port) == (
        SERVER6 if name == "six.example" else SERVER, PORTS[port],
    )  # fmt: skip
    assert app.name_from == "sni"
    assert told_by(app) == (version, alpn, carrier)
    assert (tls(app).cipher is None) == (version is None)
    assert tls(app).alert == (None if version else 70)


def test_curl_offers_protocols(heard: Heard) -> None:
    told = heard.by("native")
    assert tls(told.one("tls", "plain.example")).alpn_offered == ("h2", "http/1.1")
    assert tls(told.one("tls", "tls12.example")).alpn_offered == ("http/1.1",)
    assert tls(told.one("tls", "odd.example")).alpn_offered == ()


def test_openssl_takes_up_a_session(heard: Heard) -> None:
    again = heard.by("native").all("tls", "again.example")
    assert [tls(app).resumed for app in again] == [False, True]


def test_openssl_speaks_dtls(heard: Heard) -> None:
    app = first(heard.by("native"), "dtls")
    assert (app.name, app.name_from, *told_by(app)) == (
        "dtls.example", "sni", "DTLSv1.2", None, None,
    )  # fmt: skip
    assert app.ja4 is not None
    assert app.ja4.startswith("dd2d")


@pytest.mark.parametrize("version", ["1", "2"])
def test_aioquic_asks_for_a_name_by_quic(heard: Heard, version: str) -> None:
    app = first(heard.by("native"), "quic", f"quic{version}.example")
    assert (app.name_from, *told_by(app)) == ("quic", f"QUICv{version}", None, None)
    assert (tls(app).alpn_offered, tls(app).client_version) == (("h3",), "TLSv1.3")
    assert tls(app).cipher is not None


def test_clients_have_their_fingerprints(heard: Heard) -> None:
    told = heard.by("native")
    carried = {"mail.example": "odd.example", "hidden.example": "plain.example"}
    ours: dict[str | None, set[str | None]] = {}
    for app in (*told.all("tls"), *told.all("quic")):
        ours.setdefault(app.name, set()).add(app.ja4)
    for name, same in carried.items():
        assert ours.pop(name) == ours[same]
    assert ours == fingerprints(heard.file)
    assert len(ours) == 9


def test_curl_asks_for_pages(heard: Heard) -> None:
    told = heard.by("native")
    exchanges = told.exchanges[told.flow("http", "web.example")]
    asked = []
    for app in exchanges:
        assert (app.name, app.name_from, app.version) == ("web.example", "http", "HTTP/1.1")
        assert isinstance(app.details, HttpDetails)
        asked.append((app.details.method, app.details.path, app.details.status))
    assert asked == [
        ("GET", "/first?x=1", 200), ("GET", "/chunks", 200), ("HEAD", "/head", 200),
        ("POST", "/form", 200), ("GET", "/missing", 404),
    ]  # fmt: skip
    assert exchanges[0].details == HttpDetails(
        "GET", "web.example", "/first?x=1", 200, "OK", "agent/1", "text/html"
    )


def test_a_name_has_no_port(heard: Heard) -> None:
    app = first(heard.by("native"), "http", "port.example")
    assert isinstance(app.details, HttpDetails)
    assert app.details.host == f"port.example:{PORTS['odd http']}"


def test_http2_is_known_by_its_preface(heard: Heard) -> None:
    told = heard.by("native")
    label = first(told, "http2")
    assert (label.name, label.version, label.count) == (None, None, 0)
    assert told.flow("http2").resp.port == PORTS["h2c"]


def test_a_proxy_is_asked_for_a_tunnel(heard: Heard) -> None:
    told = heard.by("native")
    tunnel, inside = told.exchanges[told.flow("http", "hidden.example")]
    assert isinstance(tunnel.details, HttpDetails)
    assert (tunnel.details.method, tunnel.details.status) == ("CONNECT", 200)
    assert (inside.protocol, inside.name, inside.carrier) == ("tls", "hidden.example", "http")


def answered(told: Told, name: str, kind: str) -> list[tuple[FiveTuple, DnsDetails]]:
    return [
        (key, app.details)
        for key, apps in told.exchanges.items()
        for app in apps
        if isinstance(app.details, DnsDetails)
        and (app.name, app.name_from, app.details.type) == (name, "dns", kind)
    ]


def one_answered(told: Told, name: str, kind: str) -> DnsDetails:
    [(_, details)] = answered(told, name, kind)
    return details


def test_dig_asks_for_names(heard: Heard) -> None:
    told = heard.by("native")
    assert one_answered(told, "alias.example", "A").answers == (
        DnsAnswer("alias.example", "CNAME", 300, "web.example", True),
        DnsAnswer("web.example", "A", 300, SERVER, True),
    )
    missing = one_answered(told, "missing.example", "A")
    assert (missing.rcode, missing.answers) == ("NXDOMAIN", ())
    mail = one_answered(told, "mail.example", "MX")
    assert mail.answers == (DnsAnswer("mail.example", "MX", 300, "mx.example", True),)
    # Once more by curl's resolver.
    for _, six in answered(told, "six.example", "AAAA"):
        assert six.answers == (DnsAnswer("six.example", "AAAA", 300, SERVER6, True),)


def test_dig_asks_by_tcp_too(heard: Heard) -> None:
    told = heard.by("native")
    [(key, stream)] = answered(told, "stream.example", "A")
    assert (key.proto, key.resp.port) == (6, PORTS["dns"])
    assert stream.answers == (DnsAnswer("stream.example", "A", 300, SERVER, True),)
    cut, whole = sorted(answered(told, "long.example", "TXT"), key=lambda each: -each[0].proto)
    assert (cut[0].proto, cut[1].answers, whole[0].proto) == (17, (), 6)
    assert [answer.data for answer in whole[1].answers] == [
        f"TXT 200 {letter * 200}" for letter in "abcdefgh"
    ]


def test_the_c_library_asks_twice_in_one_flow(heard: Heard) -> None:
    told = heard.by("native")
    exchanges = told.exchanges[told.flow("dns", "both.example")]
    asked = [app.details.type for app in exchanges if isinstance(app.details, DnsDetails)]
    assert asked == ["A", "AAAA"]


def test_ssh_shows_its_banners(heard: Heard) -> None:
    said = subprocess.run(["ssh", "-V"], check=True, capture_output=True, text=True).stderr
    app = first(heard.by("native"), "ssh")
    assert app.version == "2.0"
    assert app.details == SshDetails(f"SSH-2.0-{said.split(',')[0]}", SSH_BANNER)


def test_mosquitto_shows_its_id(heard: Heard) -> None:
    app = first(heard.by("native"), "mqtt")
    assert (app.version, app.details) == ("5.0", MqttDetails("sensor-1"))


def test_a_client_of_dhcp_gets_an_address(heard: Heard) -> None:
    told = heard.by("native")
    exchanges = [app.details for app in told.all("dhcp") if isinstance(app.details, DhcpDetails)]
    assert {details.message_types for details in exchanges} == {
        ("DISCOVER",), ("OFFER",), ("REQUEST",), ("ACK",),
    }  # fmt: skip
    by_type = {details.message_types[0]: details for details in exchanges}
    discover, ack = by_type["DISCOVER"], by_type["ACK"]
    assert (discover.host_name, discover.vendor_class) == ("laptop", "maker of laptops")
    assert by_type["REQUEST"].requested == LEASED
    assert (ack.assigned, ack.server, ack.routers) == ((LEASED,), SERVER, (SERVER,))
    assert (ack.prefix_length, ack.lease, ack.domain) == (24, 600, "example")
    assert (discover.mac, discover.id) == (ack.mac, ack.id)


@pytest.mark.parametrize(
    ("protocol", "name", "server"),
    [
        *(("tls", f"{host}.example", None) for host in ("plain", "tls12", "odd", "six", "mail")),
        ("tls", "refused.example", None), ("quic", "quic1.example", None),
        ("http", "web.example", None), ("http2", None, "h2c.example"),
        ("ssh", None, "ssh.example"), ("http", "hidden.example", "proxy.example"),
    ],
)  # fmt: skip
def test_a_server_has_the_name_that_its_client_looked_up(
    heard: Heard, protocol: str, name: str | None, server: str | None
) -> None:
    told = heard.by("native")
    assert told.servers[told.flow(protocol, name)] == (server or name)
