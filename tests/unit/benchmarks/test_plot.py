"""The line chart of the benchmarks."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from benchmarks.plot import line_chart

_SVG = "{http://www.w3.org/2000/svg}"


def test_each_series_is_a_line_through_its_points_and_has_its_name() -> None:
    chart = ET.fromstring(
        line_chart("T", "x", "y", {"a <b>": [(4, 8), (0, 0), (2, 4)], "other": [(4, 0)]})
    )
    lines = [line.attrib["points"] for line in chart.iter(f"{_SVG}polyline")]
    assert lines == ["70.0,310.0 260.0,175.0 450.0,40.0", "450.0,310.0"]
    texts = [text.text for text in chart.iter(f"{_SVG}text")]
    assert {"T", "x", "y", "a <b>", "other"} <= set(texts)


def test_axes_go_from_zero_to_the_greatest_value() -> None:
    chart = ET.fromstring(line_chart("T", "x", "y", {"a": [(4, 8)]}))
    texts = [text.text for text in chart.iter(f"{_SVG}text")]
    assert texts[1:11] == ["0", "0", "2", "1", "4", "2", "6", "3", "8", "4"]


def test_nothing_to_draw_is_a_chart_without_lines() -> None:
    chart = ET.fromstring(line_chart("T", "x", "y", {}))
    assert not list(chart.iter(f"{_SVG}polyline"))
