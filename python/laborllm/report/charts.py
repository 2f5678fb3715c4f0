"""Charts as static SVG: drawn by Vega, then rebuilt from a short list of allowed elements and attributes.

Every chart comes twice, wide and for a phone, under the same alternative text; the page shows one of the two. Colours
are those of the light scheme, so that a figure cut out of the page still reads; the page maps them to its scheme.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree as ET

import altair as alt
from markupsafe import Markup

from laborllm.report.text import plain, wrapped

PALETTE = {
    "ink": "#1d1c1a",
    "muted": "#6a675f",
    "rule": "#dedad0",
    "first": "#1f5a8c",
    "second": "#b4521e",
    "soft": "#a9bfd2",
}

_ELEMENTS = {"g", "path", "line", "rect", "circle", "text", "tspan"}
_ATTRIBUTES = {
    "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "width", "height", "cx", "cy", "r", "fill",
    "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "text-anchor", "font-size",
    "font-weight",
}  # fmt: skip
_LEADING = 15
_SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Point:
    """A value with its interval; `series` 0 is drawn as a disc in the first colour, 1 as a diamond in the second."""

    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0


@dataclass(frozen=True)
class Dots:
    """One line of a dot chart: a name, its points, and the text at its right end."""

    label: str
    points: Sequence[Point]
    text: str


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart; `marked` picks out what happened."""

    label: str
    value: float
    text: str
    marked: bool = False


@dataclass(frozen=True)
class _Frame:
    """Where things stand, in pixels (`wrap` in characters); on a phone `lift` raises the texts above their line."""

    name: str
    left: int
    plot: int
    right: int
    top: int
    step: int
    wrap: int
    wrap_lines: int
    lift: int
    bar: int
    ticks: int
    label_x: int
    label_align: Literal["left", "right"]
    text_x: int
    text_align: Literal["left", "right"]


_WIDE = _Frame(
    "wide", 226, 390, 144, top=4, step=36, wrap=30, wrap_lines=2, lift=0, bar=16, ticks=7,
    label_x=-14, label_align="right", text_x=404, text_align="left",
)  # fmt: skip
_BESIDE = _Frame(
    "wide", 196, 330, 124, top=4, step=36, wrap=26, wrap_lines=2, lift=0, bar=16, ticks=7,
    label_x=-12, label_align="right", text_x=342, text_align="left",
)  # fmt: skip
_PHONE = _Frame(
    "phone", 8, 334, 8, top=4, step=50, wrap=36, wrap_lines=1, lift=19, bar=12, ticks=5,
    label_x=0, label_align="left", text_x=334, text_align="right",
)  # fmt: skip


def dot_chart(lines: Sequence[Dots], *, axis: str, alt_text: str) -> Markup:
    """Draw points and 95 % intervals on a common axis, logarithmic where they span more than a factor of three."""
    ends = [end for line in lines for p in line.points for end in (p.value, p.low, p.high) if end is not None]
    low, high, logarithmic = _domain([end for end in ends if math.isfinite(end)])
    points = [
        {"line": i, "value": p.value, "low": p.low, "high": p.high, "series": p.series}
        for i, line in enumerate(lines)
        for p in line.points
        if math.isfinite(p.value)
    ]
    scale = alt.Scale(type="log" if logarithmic else "linear", domain=[low, high], nice=False, zero=False)
    figures = []
    for frame in (_WIDE, _PHONE):
        x_axis = alt.Axis(
            title=f"{axis}, log scale" if logarithmic else axis,
            values=_log_ticks(low, high) if logarithmic else alt.Undefined,
            tickCount=frame.ticks,
            format="~g",
        )
        marks = _dots(points, scale=scale, axis=x_axis, y=_y(len(lines)))
        figures.append(_figure(frame, lines, marks=marks, alt_text=alt_text, foot=46))
    return Markup("\n").join(figures)


def bar_chart(lines: Sequence[Bar], *, alt_text: str) -> Markup:
    """Draw probabilities as bars from zero; no axis, every bar carries its number."""
    longest = max((line.value for line in lines), default=0.0) or 1.0
    bars = [
        {"line": i, "value": line.value, "zero": 0, "colour": PALETTE["second" if line.marked else "soft"]}
        for i, line in enumerate(lines)
    ]
    x = alt.X("value:Q", scale=alt.Scale(domain=[0, longest], nice=False), axis=None)
    figures = []
    for frame in (_BESIDE, _PHONE):
        chart = alt.Chart(alt.InlineData(values=bars)).mark_bar(height=frame.bar)
        marks = [chart.encode(x=x, x2="zero:Q", y=_y(len(lines)), color=alt.Color("colour:N", scale=None))]
        ends = [round(frame.plot * line.value / longest) for line in lines]
        figures.append(_figure(frame, lines, marks=marks, alt_text=alt_text, foot=6, ends=ends))
    return Markup("\n").join(figures)


def _dots(points: list[dict[str, Any]], *, scale: alt.Scale, axis: alt.Axis, y: alt.Y) -> list[Any]:
    colours = alt.Scale(domain=[0, 1], range=[PALETTE["first"], PALETTE["second"]])
    colour = alt.Color("series:N", scale=colours, legend=None)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=[0, 1], range=["circle", "diamond"]), legend=None)
    size = alt.Size("series:N", scale=alt.Scale(domain=[0, 1], range=[64, 100]), legend=None)
    known = [p for p in points if p["low"] is not None and p["high"] is not None]
    whiskers = alt.Chart(alt.InlineData(values=known)).mark_rule(strokeWidth=1.8, opacity=0.75)
    dots = alt.Chart(alt.InlineData(values=points)).mark_point(filled=True, opacity=1)
    return [
        whiskers.encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", y=y, color=colour),
        dots.encode(x=alt.X("value:Q", scale=scale, axis=axis), y=y, color=colour, shape=shape, size=size),
    ]


def _y(num_lines: int) -> alt.Y:
    return alt.Y(
        "line:Q", scale=alt.Scale(domain=[-0.5, num_lines - 0.5], reverse=True, nice=False, padding=0), axis=None
    )


def _texts(frame: _Frame, lines: Sequence[Dots | Bar], ends: Sequence[int] | None) -> list[Any]:
    """Names at the left; numbers in a column at the right, or where their bar ends (phone: both above the line)."""
    layers: list[Any] = []
    style: dict[str, Any] = {
        "fontSize": 12 if frame.lift else 12.5,
        "baseline": "middle",
        "lineBreak": "\n",
        "lineHeight": _LEADING,
    }
    for i, line in enumerate(lines):
        label = wrapped(line.label, frame.wrap, lines=frame.wrap_lines)
        rise = frame.lift + label.count("\n") * _LEADING / 2
        at_end = ends is not None and not frame.lift
        text_x = ends[i] + 10 if ends is not None and at_end else frame.text_x
        for text, at, align, dy in (
            (label, frame.label_x, frame.label_align, -rise),
            (plain(line.text), text_x, frame.text_align, -frame.lift),
        ):
            mark = alt.Chart(alt.InlineData(values=[{"line": i, "text": text}])).mark_text(
                align=align, dy=dy, color=PALETTE["ink"], **style
            )
            layers.append(mark.encode(x=alt.value(at), y=_y(len(lines)), text="text:N"))
    return layers


def _figure(
    frame: _Frame,
    lines: Sequence[Dots | Bar],
    *,
    marks: list[Any],
    alt_text: str,
    foot: int,
    ends: Sequence[int] | None = None,
) -> Markup:
    """Draw the layers in a frame of fixed size: no text that they hold can change the layout."""
    height = frame.step * len(lines)
    quiet: dict[str, Any] = {
        "labelColor": PALETTE["muted"],
        "titleColor": PALETTE["muted"],
        "tickColor": PALETTE["muted"],
    }
    chart = (
        alt.layer(*marks, *_texts(frame, lines, ends))
        .properties(
            width=frame.plot,
            height=height,
            autosize="none",
            background="transparent",
            padding={"left": frame.left, "right": frame.right, "top": frame.top, "bottom": foot},
        )
        .configure_view(stroke=None)
        .configure_axis(
            **quiet,
            domainColor=PALETTE["muted"],
            gridColor=PALETTE["rule"],
            gridDash=[1, 3],
            labelFontSize=11.5,
            titleFontSize=11.5,
            titleFontWeight="normal",
            titlePadding=8,
        )
    )
    drawn = io.StringIO()
    with alt.theme.enable("none"):
        chart.save(drawn, format="svg")
    size = (frame.left + frame.plot + frame.right, frame.top + height + foot)
    return rebuilt(drawn.getvalue(), name=frame.name, size=size, alt_text=alt_text)


def rebuilt(svg: str, *, name: str, size: tuple[int, int], alt_text: str) -> Markup:
    """Copy an SVG through the list of allowed elements and attributes; whatever is not on it is left out."""
    root = ET.Element(
        "svg",
        {
            "class": name,
            "viewBox": f"0 0 {size[0]} {size[1]}",
            "width": str(size[0]),
            "height": str(size[1]),
            "role": "img",
            "aria-label": plain(alt_text),
        },
    )
    drawn = ET.fromstring(svg)  # noqa: S314  the renderer's own output, which holds no document type
    for child in drawn:
        _copy(child, root)
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=False))  # noqa: S704  built from the list


def _copy(element: ET.Element, parent: ET.Element) -> None:
    tag = element.tag.removeprefix(_SVG)
    if tag not in _ELEMENTS or element.get("display") == "none":
        return
    copy = ET.SubElement(parent, tag, {k: v for k, v in element.attrib.items() if k in _ATTRIBUTES})
    copy.text = element.text
    for child in element:
        _copy(child, copy)
    if tag == "g" and len(copy) == 0:
        parent.remove(copy)


def _domain(ends: list[float]) -> tuple[float, float, bool]:
    """Range of the axis with a margin, and whether it is logarithmic."""
    if not ends:
        return 0.0, 1.0, False
    low, high = min(ends), max(ends)
    if low > 0 and high > 3 * low:
        margin = (high / low) ** 0.05
        return low / margin, high * margin, True
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin, False


def _log_ticks(low: float, high: float) -> list[float]:
    """The numbers 1, 2 and 5 times powers of ten inside the axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [t for power in powers for t in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= t <= high]
