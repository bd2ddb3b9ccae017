"""Rendering of pages as HTML and Markdown."""

from functools import cache
from typing import TYPE_CHECKING

from cxr_pipeline.report.content import Page
from cxr_pipeline.report.formatting import markdown

if TYPE_CHECKING:
    from jinja2 import Environment

PHANTOM = "PHANTOM IMAGES: synthetic. These results say nothing about patients."
RESEARCH = "Research use only, not a medical device."


def render_html(page: Page) -> str:
    """Render a page as one HTML file without external files and scripts; all text is escaped."""
    return _environment().get_template("page.html.j2").render(page=page, banner=PHANTOM)


def render_markdown(page: Page) -> str:
    """Render a page as Markdown; all text is escaped."""
    return _environment().get_template("page.md.j2").render(page=page, banner=PHANTOM)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("cxr_pipeline.report", "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown
    return environment
