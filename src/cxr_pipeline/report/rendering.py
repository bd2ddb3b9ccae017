"""How a page is made of a template."""

import re
from base64 import b64encode
from typing import Any

_MARKDOWN = re.compile(r"[\\`*|\[\]]")


def fill(template: str, **values: Any) -> str:
    """Fill a template of this package.

    Args:
        template: its file name.
        values: what it names; text in them is escaped, in Markdown by the filter ``markdown``.

    Returns:
        HTML that loads nothing from anywhere, or Markdown.

    Raises:
        jinja2.UndefinedError: the template names something that is not there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("cxr_pipeline.report", "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown
    return environment.get_template(template).render(**values)


def markdown(text: str) -> str:
    r"""Text as it stands in a paragraph or a table of Markdown, on one line; a second line comes in brackets.

    Example:
        >>> markdown("0.889\\n0.851 to 0.924 | <b>")
        '0.889 (0.851 to 0.924 \\\\| &lt;b>)'
    """
    first, line, rest = text.partition("\n")
    plain = f"{first} ({rest})" if line else first
    return _MARKDOWN.sub(r"\\\g<0>", plain.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " "))


def png_uri(figure: bytes) -> str:
    """A PNG as a ``data:`` address."""
    return "data:image/png;base64," + b64encode(figure).decode("ascii")
