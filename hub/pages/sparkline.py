"""A trend of a few days as inline SVG: attributes and classes only, so that no inline style is needed."""

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from hub.boards import Trend

WIDTH, HEIGHT, EDGE = 132, 44, 4


def sparkline(trend: Trend | None, words: str, since: float, until: float) -> Markup:
    """*trend* between the instants *since* and *until* (seconds since 1970), with limits as lines and the range between
    them as a band. *words* is what a screen reader says. Nothing measured: nothing drawn."""
    if trend is None or not trend.at:
        return Markup("")
    limits = [
        limit for limit in (trend.low_red, trend.low_amber, trend.high_amber, trend.high_red) if limit is not None
    ]
    lowest, highest = min([*trend.value, *limits]), max([*trend.value, *limits])
    spread = (highest - lowest) or 1.0
    across = (WIDTH - EDGE) / ((until - since) or 1.0)
    up = (HEIGHT - 2 * EDGE) / spread

    def y(value: float) -> float:
        return HEIGHT - EDGE - (value - lowest) * up

    points = " ".join(
        f"{(at - since) * across:.1f},{y(value):.1f}" for at, value in zip(trend.at, trend.value, strict=True)
    )
    last_x = (trend.at[-1] - since) * across
    parts = [
        f'<svg class="hub-spark" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">',
        _band(trend, y),
        *_lines((trend.low_red, trend.high_red), "", y),
        *_lines((trend.low_amber, trend.high_amber), " hub-spark__limit--amber", y),
        f'<polyline class="hub-spark__line" points="{points}"/>',
        f'<circle class="hub-spark__last" cx="{last_x:.1f}" cy="{y(trend.value[-1]):.1f}" r="3"/>',
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704 (numbers, and words that are escaped above)


def _band(trend: Trend, y: Callable[[float], float]) -> str:
    low = trend.low_amber if trend.low_amber is not None else trend.low_red
    high = trend.high_amber if trend.high_amber is not None else trend.high_red
    if low is None and high is None:
        return ""
    top = y(high) if high is not None else 0.0
    bottom = y(low) if low is not None else float(HEIGHT)
    return f'<rect class="hub-spark__band" x="0" y="{top:.1f}" width="{WIDTH}" height="{max(0.0, bottom - top):.1f}"/>'


def _lines(limits: Sequence[float | None], look: str, y: Callable[[float], float]) -> list[str]:
    return [
        f'<line class="hub-spark__limit{look}" x1="0" x2="{WIDTH}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>'
        for limit in limits
        if limit is not None
    ]
