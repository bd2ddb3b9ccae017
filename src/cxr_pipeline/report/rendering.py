"""How a page is made of a template."""

from base64 import b64encode
from typing import Any


def fill(template: str, **values: Any) -> str:
    """Fill a template of this package.

    Args:
        template: its file name.
        values: what it names; text in them is escaped.

    Returns:
        HTML that loads nothing from anywhere.

    Raises:
        jinja2.UndefinedError: the template names something that is not there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cxr_pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def png_uri(figure: bytes) -> str:
    """A PNG as a ``data:`` address."""
    return "data:image/png;base64," + b64encode(figure).decode("ascii")
