"""The first inputs of the parsers of tests/fuzz/one_parser.h: messages behind each kind of head."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

# Flags, the question, the ports, nothing, and the note.
HEADS = (
    bytes(8),
    b"\x08\x10\0\0\0\0\0\0",
    b"\x02\x11\x1b\0\x16\1\0\x53",
    b"\x08\0\0\0\x16\1\0\x53",
    b"\x01\0\x3f\0\0\0\0\0",
    b"\0\x14\0\0\5\0QM",
    b"\x08\x1c\x09\0\x1a\1\2\x53",
    b"\0\0\5\0\x1d\1\1\x53",
    b"\1\0\x12\0\0\0\0\0",
)
_LDAP_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
_NETBIOS = b"\x81\0\0\x44 " + b"CA" * 16 + b"\0 " + b"FH" * 16 + b"\0"
_MYSQL = b"J\0\0\0\n8.0.36\0!\0\0\0tnNv,t'`\0\xff\xff-\x02\0?\xe0\x15" + bytes(10) + b"1rkADp+#ijZe"
MESSAGES: dict[str, tuple[bytes, ...]] = {
    "http": (
        b"GET /x?y HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Type: a;\r\n b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT u:p@h.example:443 HTTP/1.0\r\n\r\n",
        b"GET http://u@h/x HTTP/1.1\n\n",
        b"GET /zeek\n",
        b"OPTIONS HTTP/1.1\nHost: y\n\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ),
    "http_chunk": (b"5;x=y\r\nhello\r\n", b"\r\n0\r\nT: u\r\n v\r\n\r\n", b"\nffffffffffffff\n"),
    "ssh": (b"SSH-2.0-OpenSSH_9.7\r\n", b"Hello\r\nSSH-1.99-Cisco-1.25\n", b"SSH-2.0-"),
    "mqtt": (
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04city",
        b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\0\0\0\1\x00\x00",
        b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a",
        b"\x20\x02\x00\x00",
        b"\x20\x12\x00\x00\x0f\x21\x00\x14\x26\x00\x01a\x00\x01b\x12\x00\x02me",
    ),
    "starttls": (
        b"220 mx ESMTP\r\n",
        b"EHLO a\r\n",
        b"STARTTLS\r\n",
        b"+OK POP\r\n",
        b"* OK IMAP\r\n",
        b"a STARTTLS\r\n",
        b"a OK\r\n",
        b"AUTH TLS\r\n",
        b"234 go\r\n",
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>",
        b"<starttls/>",
        b"<proceed/>",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\x12\0\3\0\0user\0me\0\0\0",
        b"S",
        _MYSQL,
        b" \0\0\1\x85\xae? " + bytes(28),
        _LDAP_TLS,
        bytes.fromhex("300c02010260070201030400 8000"),
        bytes.fromhex("300c02010178070a010004000400"),
        bytes.fromhex("3017020101631204000a01000a0100020100020100010100"),
    ),
    "labels": (
        bytes.fromhex("030000130ee000000000000100080003000000"),
        bytes.fromhex("030000130ed000001234000200080001000000"),
        b"\0\0\0\x54\xfeSMB@\0",
        _NETBIOS,
        b"\x13BitTorrent protocol" + bytes(8),
        b"d1:ad2:id20:" + b"x" * 20 + b"e1:q4:ping1:t2:aa1:y1:qe",
        bytes.fromhex("000100182112a442") + b"x" * 36,
        b"\x23" + bytes(47),
        b"\1\0\0\0" + b"k" * 144,
        b"\x80\x88" + b"a" * 10 + b"d" * 160,
        bytes.fromhex("80c900010000000181ca00020000000101016100"),
        b"A\0\x12\x34\0\0\0\1\0\0\0\0\0\1\0\0\0\1\0\0",
    ),
}


def seeds(target: str) -> Iterator[bytes]:
    """Return each message of the target behind each head."""
    for head, message in product(HEADS, MESSAGES[target]):
        yield head + message
