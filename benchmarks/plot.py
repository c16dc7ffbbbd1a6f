"""A line chart as SVG, for a curve in the documents; it needs no package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["line_chart"]

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 40, 50
_COLOURS = ("#0b6e99", "#c0392b", "#2e8b57", "#8e44ad", "#b9770e", "#555555")


def line_chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Draw a line through the points of each series; both axes begin at 0."""
    points = [point for line in series.values() for point in line]
    x_most = max((x for x, _ in points), default=0) or 1
    y_most = max((y for _, y in points), default=0) or 1
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + width * x / x_most, _TOP + height * (1 - y / y_most)

    parts = [_text(_WIDTH / 2, 20, title, "middle", 15)]
    for i in range(5):
        x, y = place(x_most * i / 4, y_most * i / 4)
        parts += [
            f'<path d="M{_LEFT} {y:.1f}h{width}" stroke="#dddddd"/>',
            _text(_LEFT - 8, y + 4, f"{y_most * i / 4:.3g}", "end"),
            _text(x, _HEIGHT - _BOTTOM + 18, f"{x_most * i / 4:.3g}", "middle"),
        ]
    parts += [
        _text(_LEFT + width / 2, _HEIGHT - 12, x_label, "middle"),
        f'<g transform="rotate(-90 18 {_TOP + height / 2})">'
        + _text(18, _TOP + height / 2, y_label, "middle")
        + "</g>",
    ]
    for number, (name, line) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in sorted(line)))
        at = _TOP + 10 + 20 * number
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<path d="M{_WIDTH - _RIGHT + 12} {at}h20" stroke="{colour}" stroke-width="2"/>',
            _text(_WIDTH - _RIGHT + 38, at + 4, name, "start"),
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-family="sans-serif">{escape(text)}</text>'
    )
