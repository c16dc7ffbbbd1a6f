"""Texts in the columns of a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from netring_bpf.cli.fold import folded, write


@pytest.mark.parametrize(
    ("text", "width", "indent", "lines"),
    [
        ("", 40, 0, [""]),
        ("one two", None, 9, ["one two"]),
        ("one two", 30, 10, ["one two"]),
        ("a" * 20 + " b", 20, 0, ["a" * 20, "b"]),
        ("a" * 45, 22, 2, ["a" * 20, "  " + "a" * 20, "  " + "a" * 5]),
        ("to " + "a" * 25, 20, 0, ["to", "a" * 20, "a" * 5]),
        ("wide " + "語" * 11, 20, 0, ["wide", "語" * 10, "語"]),
        ("a" * 30, 1, 0, ["a" * 20, "a" * 10]),
    ],
)
def test_a_text_is_folded(text: str, width: int | None, indent: int, lines: list[str]) -> None:
    assert folded(text, width, indent).split("\n") == lines


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write("é")
    assert raw.getvalue() == b"\\xe9\n"
