"""SVG as markup: elements whose attributes and text are escaped, numbers rounded to a tenth of a unit."""

from __future__ import annotations

from markupsafe import Markup, escape

from netferry.converters.escaping import html

CHARACTER = 0.62
"""Width of one character in units of the font's size: an upper bound for the words of charts in common sans fonts."""

Attribute = str | float | None


def tag(name: str, *children: str, **attributes: Attribute) -> Markup:
    """``tag("text", "a < b", x=1, font_size=9)``: a trailing underscore is dropped, others become hyphens."""
    written = "".join(
        f' {_name(key)}="{escape(_number(value))}"' for key, value in attributes.items() if value is not None
    )
    inside = Markup("").join(map(html, children))
    return Markup(f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>")


def picture(width: float, height: float, label: str, *children: str, class_: str = "chart") -> Markup:
    """A drawing with a view box of its own and a sentence for those who cannot see it."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        class_=class_,
        role="img",
        aria_label=label,
    )


def path(points: list[tuple[float, float]], **attributes: Attribute) -> Markup:
    """A line through ``points``."""
    steps = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
    return tag("path", d=f"M{steps}", **attributes)


def shortened(text: str, width: float, size: float) -> str:
    """``text`` cut to ``width`` at a font of ``size``; an ellipsis stands for what was cut."""
    room = max(1, int(width / (CHARACTER * size)))
    return text if len(text) <= room else f"{text[: max(0, room - 1)]}…"


def text_width(text: str, size: float) -> float:
    return CHARACTER * size * len(text)


def _name(key: str) -> str:
    key = key.rstrip("_")
    return key if key in ("viewBox", "refX") else key.replace("_", "-")


def _number(value: Attribute) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, int | float) else html(str(value))
