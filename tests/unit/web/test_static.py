"""The files of the page: colours that can be read, and nothing that is of elsewhere."""

from __future__ import annotations

import re
from itertools import product

import pytest

from netring_bpf.web.static_files import load_static

FILES = {name: file.content.decode() for name, file in load_static().items()}
STYLE = FILES["style.css"]


def colours(block: str) -> dict[str, str]:
    """The colours that a block of the style sets."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def themes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r"(:root[^{\n]*) \{(.*?)\n\s*\}", STYLE, re.DOTALL)
    found: dict[str, dict[str, str]] = {}
    for selector, body in blocks:
        found.setdefault(selector, {}).update(colours(body))
    light = found[":root"]
    return {
        "light": light,
        "dark": light | found[':root[data-theme="dark"]'],
        "dark by the system": light | found[':root:not([data-theme="light"])'],
    }


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_is_measured_right() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark", "dark by the system"])
def test_text_can_be_read_in_each_theme(theme: str) -> None:
    of = themes()[theme]
    pairs = [
        *product(("text", "muted"), ("page", "surface", "raised", "tint")),
        ("warn", "warn-tint"), ("bad", "bad-tint"), ("bad", "surface"), ("warn", "surface"),
    ]  # fmt: skip
    poor = {pair: contrast(of[pair[0]], of[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}
    # WCAG 1.4.11: what is no text.
    shapes = [(name, "surface") for name in ("in", "out", "other", "ok", "focus")]
    assert [pair for pair in shapes if contrast(of[pair[0]], of[pair[1]]) < 3] == []


def test_both_ways_to_the_dark_theme_are_the_same() -> None:
    found = themes()
    assert found["dark"] == found["dark by the system"]
    assert found["dark"] != found["light"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_fetches_nothing_from_elsewhere(name: str) -> None:
    text = FILES[name].replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?://|@import|url\(", text) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_a_script_makes_no_markup_of_text(name: str) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser"
    )
    assert re.findall(forbidden, FILES[name]) == []


def test_motion_is_for_those_who_want_it() -> None:
    outside = re.sub(
        r"@media \(prefers-reduced-motion: no-preference\) \{.*?\n\}", "", STYLE, flags=re.DOTALL
    )
    assert re.findall(r"(?<![\w-])(?:animation|transition|scroll-behavior):", outside) == []
