"""The charts of an interactive page, as Vega-Lite specifications whose data the page fills in.

Colours are parameters, which the page sets in a light and in a dark theme. Altair is imported when
a chart is made.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

MISSING = "needs Altair and vl-convert: pip install 'keras-nns[page]'"

COLOURS = ("ink", "soft", "line", "surface", "accent", "warm", "muted", "low", "middle", "high")
"""Parameters that every chart has; `low` to `high` are the ends and the middle of a ramp."""

Spec = dict[str, Any]


def library() -> tuple[ModuleType, ModuleType]:
    """Return Altair and vl-convert.

    Raises:
        ImportError: One of them is not installed; the message says what to do.
    """
    try:
        import altair  # noqa: PLC0415
        import vl_convert  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f"An interactive page {MISSING}.") from error
    return altair, vl_convert


@cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that can stand in a page.

    Raises:
        ImportError: vl-convert is not installed.
    """
    _, vl_convert = library()
    script: str = vl_convert.javascript_bundle()
    # Within a page, these would end the script or hide what follows.
    return script.replace("</script", "<\\/script").replace("<!--", "\\u003c!--")


def specifications() -> dict[str, Spec]:
    """Return every chart by its name.

    Raises:
        ImportError: Altair is not installed.
    """
    return _specified(library()[0])


@cache
def _specified(alt: ModuleType) -> dict[str, Spec]:
    """Made once: Altair checks each against a schema, which takes a second for all."""
    charts = {
        "sizes": _sizes(alt),
        "strip": _strip(alt),
        "units": _units(alt),
        "rule": _rule(alt),
        "matrix": _matrix(alt),
        "overlap": _overlap(alt),
        "figures": _figures(alt),
        "costs": _costs(alt),
    }
    palette = [alt.param(name=name, value="gray") for name in COLOURS]
    return {name: _plain(chart.add_params(*palette).to_dict()) for name, chart in charts.items()}


def _plain(spec: Spec) -> Spec:
    """Leave out what Altair's own theme says of looks, and where its schema is to be found."""
    return {key: value for key, value in spec.items() if key not in ("config", "$schema")}


def _on_off(alt: Any) -> Any:
    """What is kept, beside what is not."""
    colours = [alt.ExprRef("muted"), alt.ExprRef("accent")]
    return alt.Scale(domain=[False, True], range=colours)


def _ramp(alt: Any, **scale: Any) -> Any:
    colours = [alt.ExprRef(name) for name in ("low", "middle", "high")]
    return alt.Scale(range=colours, interpolate="lab", **scale)


def _sizes(alt: Any) -> Any:
    """What each network for a label costs and is worth; the one that is chosen stands out."""
    base = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X("size:Q", scale=alt.Scale(type="log", padding=24), axis=alt.Axis(grid=False)),
        y=alt.Y("worth:Q", scale=alt.Scale(zero=False, padding=14)),
    )
    kinds = ["ours", "the paper's rule", "the parent"]
    marks = base.mark_point(filled=True, opacity=1).encode(
        color=alt.Color(
            "role:N",
            scale=alt.Scale(
                domain=kinds, range=[alt.ExprRef(name) for name in ("accent", "warm", "soft")]
            ),
            legend=alt.Legend(title=None, orient="top"),
        ),
        shape=alt.Shape(
            "role:N",
            scale=alt.Scale(domain=kinds, range=["circle", "triangle-up", "square"]),
            legend=alt.Legend(title=None, orient="top"),
        ),
        size=alt.condition("datum.chosen", alt.value(260), alt.value(80)),
        tooltip=[alt.Tooltip("way:N", title="network"), alt.Tooltip("told:N", title="figures")],
    )
    names = base.mark_text(dy=-16, fontSize=11, color=alt.ExprRef("ink")).encode(text="short:N")
    chosen = (
        alt.Chart(alt.NamedData("points"))
        .transform_filter("datum.chosen")
        .mark_rule(strokeDash=[3, 3], color=alt.ExprRef("soft"))
        .encode(y="worth:Q")
    )
    return alt.layer(chosen, marks, names).properties(width="container", height=210)


def _strip(alt: Any) -> Any:
    """Which units of every group a network keeps: one row for each group."""
    return (
        alt.Chart(alt.NamedData("strip"))
        .mark_rect(stroke=alt.ExprRef("surface"), strokeWidth=0.6)
        .encode(
            x=alt.X("left:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None),
            x2="right:Q",
            y=alt.Y("group:N", sort=None, title=None, scale=alt.Scale(paddingInner=0.25)),
            color=alt.Color("kept:N", scale=_on_off(alt), legend=None),
            tooltip=[
                alt.Tooltip("group:N", title="layer"),
                alt.Tooltip("unit:Q", title="unit"),
                alt.Tooltip("told:N", title="this network"),
            ],
        )
        .properties(width="container", height=alt.Step(34))
    )


def _units(alt: Any) -> Any:
    """How active each unit is for each label, with a dot where the label's network keeps it."""
    labels = alt.Y("label:N", sort=None, title="label")
    across = alt.X(
        "left:Q",
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(grid=False, tickMinStep=1),
        title="unit",
    )
    cells = (
        alt.Chart(alt.NamedData("cells"))
        .mark_rect()
        .encode(
            x=across,
            x2="right:Q",
            y=labels,
            color=alt.Color(
                "value:Q",
                scale=_ramp(alt),
                legend=alt.Legend(title=None, orient="top", gradientThickness=8),
            ),
        )
    )
    kept = (
        alt.Chart(alt.NamedData("kept"))
        .mark_point(
            size=26,
            opacity=1,
            fill=alt.ExprRef("warm"),
            stroke=alt.ExprRef("surface"),
            strokeWidth=1,
        )
        .encode(x=alt.X("unit:Q"), y=labels)
    )
    cursor = (
        alt.Chart(alt.NamedData("cursor"))
        .mark_rect(fillOpacity=0, strokeWidth=2, stroke=alt.ExprRef("ink"))
        .encode(x=alt.X("left:Q"), x2="right:Q")
    )
    return alt.layer(cells, kept, cursor).properties(width="container", height=alt.Step(22))


def _rule(alt: Any) -> Any:
    """The averages of a label's units, and the line above which the paper keeps them."""
    zeta, highest = alt.param("zeta", value=0.4), alt.param("highest", value=1.0)
    base = alt.Chart(alt.NamedData("means"))
    bars = base.mark_bar().encode(
        x=alt.X(
            "left:Q",
            scale=alt.Scale(nice=False, zero=False),
            axis=alt.Axis(grid=False, tickMinStep=1),
            title="unit",
        ),
        x2="right:Q",
        y=alt.Y("score:Q", title="mean activation", stack=None),
        y2=alt.datum(0),
        color=alt.Color("kept:N", scale=_on_off(alt), legend=None),
        tooltip=[
            alt.Tooltip("unit:Q"),
            alt.Tooltip("score:Q", title="mean activation", format=".3g"),
            alt.Tooltip("kept:N"),
        ],
    )
    bars = bars.transform_calculate(kept="datum.score >= zeta * highest || datum.held")
    line = (
        alt.Chart(alt.Data(values=[{}]))
        .transform_calculate(at="zeta * highest")
        .mark_rule(strokeWidth=2, color=alt.ExprRef("warm"))
        .encode(y="at:Q")
    )
    return alt.layer(bars, line).add_params(zeta, highest).properties(width="container", height=200)


def _matrix(alt: Any) -> Any:
    """Which units of a group the rule keeps for each label."""
    return (
        alt.Chart(alt.NamedData("matrix"))
        .transform_calculate(kept="datum.share >= zeta || datum.held")
        .mark_rect(stroke=alt.ExprRef("surface"), strokeWidth=0.6)
        .encode(
            x=alt.X(
                "left:Q",
                scale=alt.Scale(nice=False, zero=False),
                axis=alt.Axis(grid=False, tickMinStep=1),
                title="unit",
            ),
            x2="right:Q",
            y=alt.Y("label:N", sort=None, title="label", scale=alt.Scale(paddingInner=0.15)),
            color=alt.Color("kept:N", scale=_on_off(alt), legend=None),
            tooltip=[alt.Tooltip("label:N"), alt.Tooltip("unit:Q"), alt.Tooltip("kept:N")],
        )
        .add_params(alt.param("zeta", value=0.4))
        .properties(width="container", height=alt.Step(20))
    )


def _overlap(alt: Any) -> Any:
    """How much each two networks share: a square one can click."""
    base = alt.Chart(alt.NamedData("pairs")).encode(
        x=alt.X("a:N", sort=None, title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("b:N", sort=None, title=None),
    )
    cells = base.mark_rect(cursor="pointer").encode(
        color=alt.Color("value:Q", scale=_ramp(alt, domain=[0, 0.5, 1]), legend=None),
        tooltip=[alt.Tooltip("told:N", title="units")],
    )
    picked = base.transform_filter("datum.picked").mark_rect(
        fillOpacity=0, strokeWidth=3, stroke=alt.ExprRef("warm")
    )
    words = base.mark_text(fontSize=11).encode(
        text="short:N",
        color=alt.condition(
            "luminance(scale('color', datum.value)) > 0.179",
            alt.value("black"),
            alt.value("white"),
        ),
    )
    return alt.layer(cells, picked, words).properties(width="container", height=alt.Step(30))


def _figures(alt: Any) -> Any:
    """A figure of each label in the parent and in its network, joined."""
    base = alt.Chart(alt.NamedData("figures")).encode(
        y=alt.Y("label:N", sort=None, title=None),
    )
    across = alt.Scale(domain=[0, 1])
    spread = base.mark_rule(strokeWidth=6, opacity=0.3, color=alt.ExprRef("accent")).encode(
        x=alt.X("low:Q", scale=across), x2="high:Q"
    )
    way = base.mark_rule(color=alt.ExprRef("soft")).encode(
        x=alt.X("parent:Q", scale=across), x2="network:Q"
    )
    told = [
        alt.Tooltip("label:N"),
        alt.Tooltip("parent:Q", format=".3f"),
        alt.Tooltip("network:Q", format=".3f"),
        alt.Tooltip("interval:N"),
    ]
    parent = base.mark_point(
        filled=False, size=70, strokeWidth=2, color=alt.ExprRef("soft")
    ).encode(x=alt.X("parent:Q", scale=across), tooltip=told)
    network = base.mark_point(filled=True, size=90, opacity=1, color=alt.ExprRef("accent")).encode(
        x=alt.X("network:Q", scale=across, title=None, axis=alt.Axis(tickCount=5)), tooltip=told
    )
    return alt.layer(spread, way, parent, network).properties(
        width="container", height=alt.Step(24)
    )


def _costs(alt: Any) -> Any:
    """What each network costs, the parent last."""
    base = alt.Chart(alt.NamedData("costs")).encode(
        x=alt.X("value:Q", title=None, axis=alt.Axis(format="~s", tickCount=4)),
        y=alt.Y("name:N", sort=None, title=None),
    )
    bars = base.mark_bar(cornerRadiusEnd=3).encode(
        color=alt.condition(
            "datum.parent", alt.value(alt.ExprRef("soft")), alt.value(alt.ExprRef("accent"))
        ),
        tooltip=[alt.Tooltip("name:N", title="network"), alt.Tooltip("told:N", title="cost")],
    )
    words = base.mark_text(align="left", dx=5, fontSize=11, color=alt.ExprRef("ink")).encode(
        text="told:N"
    )
    return alt.layer(bars, words).properties(width="container", height=alt.Step(24))
