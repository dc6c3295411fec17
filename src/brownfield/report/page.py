"""Templates in, one self-contained HTML file out: no network, no outside address, readable without JavaScript.

Autoescape is on for every template; figures travel as JSON in an escaped element and are drawn by the Plotly file of
the installed package, which is written into the report.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from brownfield.report.figures import Figure

__all__ = ["STYLE", "environment", "render_report"]

STYLE = (files("brownfield.report") / "templates" / "style.css").read_text("utf-8")
"""The one style sheet; a served page names its digest in its content security policy."""


@cache
def environment() -> Environment:
    """Jinja environment shared by reports and served pages: autoescape on, an unknown name is an error."""
    jinja = Environment(
        loader=PackageLoader("brownfield.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals["style"] = Markup(STYLE)  # noqa: S704 (our own file)
    jinja.filters["thousands"] = lambda value: f"{value:,}"
    jinja.filters["fixed"] = lambda value, digits=3: f"{value:.{digits}f}"
    jinja.filters["short"] = lambda value: "" if value is None else f"{value:.4g}"
    jinja.filters["money"] = lambda value: "" if value is None else f"{value:,.0f}"
    return jinja


def render_report(template: str, context: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Render a template of this room as one HTML file that holds everything it shows.

    Parameters
    ----------
    template
        File name under ``report/templates``.
    context
        Names the template uses.
    figures
        Plotly figures by the name under which the template places them (``{{ figure("name") }}``).

    Returns
    -------
    str
        The page; about 5 MB when it has figures (Plotly's own file), else a few kilobytes.
    """
    placed = {name: Markup('<div class="figure" data-figure="{}"></div>').format(name) for name in figures}
    return (
        environment()
        .get_template(template)
        .render(
            **context,
            figure=placed.__getitem__,
            figures_json=_json_for_html(figures),
            plotly_js=Markup(_plotly_js()) if figures else "",  # noqa: S704 (the installed package's own file)
        )
    )


def _json_for_html(value: Any) -> Markup:
    """JSON that cannot end the element it stands in."""
    text = msgspec.json.encode(value).decode()
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 (escaped here)


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")
