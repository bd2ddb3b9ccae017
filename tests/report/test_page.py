import re

import pytest

from cxr_pipeline.report.formatting import Link
from cxr_pipeline.report.page import PHANTOM, Page, Section, Table, Verdict

HOSTILE = "<script>alert(1)</script>\"'& `x` [y](z) | é-フィルム"


@pytest.fixture
def page(png):
    blocks = [
        HOSTILE,
        [HOSTILE, "b"],
        Table((HOSTILE, "b"), [(HOSTILE, "0.5 (0.4 to 0.6)")], "measured"),
        Section(HOSTILE, [Table(("", ""), [(HOSTILE, "1")])], HOSTILE),
        Section("folded", ["inside"], style="folded"),
        Section("for HTML", ["only there"], html_only=True),
        {f"heatmaps_{HOSTILE}": png, "roc": png},
        None,
        Section("empty", [None, [], "", Table(("a",), []), {}], "intro"),
    ]
    sections = [
        Section("All", blocks, HOSTILE, items="CLAIM 1", anchor="all"),
        Section("nothing", [None], anchor="nothing"),
        Section.warnings([HOSTILE, "second"]),
    ]
    verdict = Verdict(HOSTILE, {HOSTILE: "0.5 (0.4 to 0.6)"}, {"run": Link(HOSTILE, f"https://host/{HOSTILE}")})
    return Page(HOSTILE, verdict, sections, intro=[HOSTILE])


def test_html_shows_hostile_text_and_does_not_obey_it(page, read_page):
    read = read_page(page.html())
    assert not read.attributes("script")
    assert read.text["title"] == HOSTILE
    assert read.html.count("&lt;script&gt;alert(1)") == read.html.count("alert(1)") > 10
    assert [HOSTILE, "0.5 (0.4 to 0.6)"] in read.rows


def test_html_loads_nothing_and_has_its_date(page, read_page):
    read = read_page(page.html())
    assert {"script", "link", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, _ in read.elements)
    for _, attributes in read.elements:
        for name in ("src", "href", "srcset", "action", "background", "style"):
            assert re.match(r"data:image/png;base64,iVBOR|#|https://host/", attributes.get(name) or "#warnings")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:(?!//host)|url\(|@import", read.html)
    assert "default-src 'none'" in read.html
    assert re.search(r"Written \d{4}-\d\d-\d\d \d\d:\d\d UTC", read.text[""])


def test_html_leaves_out_what_is_empty_and_counts_warnings(page, read_page):
    read = read_page(page.html())
    assert [each["id"] for each in read.attributes("section")] == ["all", "warnings"]
    assert "empty" not in read.text["all"]
    assert "2 warnings" in read.text[""]
    assert {"href": "#warnings"} in read.attributes("a")
    assert "#warnings" not in Page("a", Verdict("b"), [Section.warnings([])]).html()


def test_phantoms_are_announced_at_the_top_and_in_the_title(read_page):
    page = Page("a page", Verdict("good"), [Section("a", ["b"])], phantom=True)
    read = read_page(page.html())
    assert PHANTOM in read.text[""]
    assert read.text["title"] == "PHANTOM IMAGES: a page"
    assert page.markdown().splitlines()[2] == f"**{PHANTOM}**"
    real = Page("a page", Verdict("good"), page.sections)
    assert "PHANTOM" not in real.html() + real.markdown()


def test_markdown_escapes_text_keeps_columns_and_leaves_out_figures_and_sections_for_html(page):
    text = page.markdown()
    assert "<script" not in text
    assert "\\`x\\` \\[y\\](z) \\|" in text
    assert "inside" in text
    assert "only there" not in text
    assert "data:image" not in text
    assert "*CLAIM 1*" in text.splitlines()
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert [{len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} for table in tables] == [{3}, {3}]
    headings = re.findall(r"^(#+) (\S*)", text, flags=re.MULTILINE)
    assert [marks for marks, _ in headings] == ["#", "##", "###", "###", "##"]
    assert "\n\n\n" not in text
    assert text.endswith("- second\n")
