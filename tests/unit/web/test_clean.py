"""Text from traffic is bounded, and obeyed by nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netring_bpf.web.clean import MAX_TEXT, clean, clean_text


@given(st.text(max_size=400) | st.text(alphabet="\u202e\x1b\ud800é<", max_size=400))
def test_text_is_printable_and_bounded(text: str) -> None:
    shown = clean_text(text)
    assert len(shown) <= MAX_TEXT
    assert shown.isprintable()
    assert clean_text(shown) == shown


def test_ten_kilobytes_are_cut_and_the_cut_is_seen() -> None:
    assert clean_text("x" * 10_240) == "x" * 255 + "…"
    assert clean_text("x" * 256) == "x" * 256
    assert clean_text("\x1b" * 100) == r"\x1b" * 63 + r"\x1" + "…"


def test_every_text_of_a_record_is_cleaned() -> None:
    record = {"a": "\u202e", "b": ["\x00", {"c": ("\x9b", 5, None, True, 1.5)}]}
    assert clean(record) == {
        "a": r"\u202e", "b": [r"\x00", {"c": [r"\x9b", 5, None, True, 1.5]}],
    }  # fmt: skip
