"""The HTML document: nothing loaded from elsewhere, everything escaped, and a slider that works without scripts."""

import html
import re
from html.parser import HTMLParser

import pytest
from test_canvas import COLOURS
from test_panels import NAMES
from test_table import TABLE

from maeref_jax.report.methods_section import CITATION
from maeref_jax.report.page import Picture, Slider, html_page
from maeref_jax.report.table import Table

VOID = {"meta", "img", "input"}


def a_page(**changes):
    given = {
        "title": "A <title>",
        "lead": ["First & foremost"],
        "pictures": [Picture(b"\x89PNG", 'slice "3"')],
        "tables": [TABLE],
        "classes": {"names": NAMES, "colours": COLOURS},
        "facts": {"Versions": {"jax": "1.2.3"}},
    }
    return html_page(**given | changes)


def test_page_is_self_contained_and_escapes_what_it_is_given():
    page = a_page()
    assert re.findall(r'src="([^"]{0,22})', page) == ["data:image/png;base64,"]
    assert all(f"id={link}>" in page for link in re.findall(r'href="#?([^"]*)', page)), "a link out of the page"
    assert "http" not in page and "url(" not in page and "@import" not in page
    for text in ("A &lt;title&gt;", "First &amp; foremost", "Dice &lt;of&gt; all", "1.2.3", "rgb(40, 200, 80)"):
        assert text in page
    assert "<title>A &lt;title&gt;" in page
    assert "<script" not in page, "a script without a slider"


def test_no_text_is_taken_for_html_wherever_it_stands():
    text = '<b title="&">'
    table = Table(text, ("", text), ((text, text), ("first", f"{text} {'long ' * 10}")), (), text)
    slider, picture = Slider(b"one", b"two", text, (text, "after")), Picture(b"png", text)
    page = a_page(
        title=text, lead=[text], pictures=[text, slider, picture], tables=[table], facts={text: {text: text}},
        classes={"names": [text] * len(COLOURS), "colours": COLOURS}, figures=[picture], methods=text, generator=text,
        warnings=[text],
    )  # fmt: skip
    assert text not in page and html.escape(text) in page


def everything():
    slider = Slider(b"one", b"two", "a & b", ("be<fore", "after"))
    pictures = ["vol<1>", (slider, Picture(b"png", "beside")), Picture(b"png", "c")]
    return a_page(pictures=pictures, figures=[Picture(b"png", "Skeletons.")], methods="τ < 1", generator="refine.py")


def test_every_tag_is_closed():
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attributes):
            self.open += [tag] * (tag not in VOID)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    tags = Tags()
    tags.feed(everything())
    assert tags.open == []


def test_a_slider_holds_both_pictures_and_shows_both_without_scripts():
    page = everything()
    assert page.count('src="data:image/png;base64,') == 5
    assert "vol&lt;1&gt;" in page and "be&lt;fore" in page and "a &amp; b" in page
    assert (
        page.count("<div class=beside>") == 1
        and page.count("<input type=range") == 1
        and 'aria-label="from be&lt;fore to after"' in page
    )
    # Laid over each other, and the range shown, only where a script said so: all other rules leave both visible.
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    rules = [rule for rule in re.findall(r"([^{}]+)\{([^{}]*)\}", style) if "clip-path: inset" in rule[1]]
    assert len(rules) == 1 and rules[0][0].strip().startswith(".scripted ")
    assert ".slider input { display: none; }" in style and "touch-action: pan-y" in style
    assert page.index("className='scripted'") < page.index("<body>") < page.index("class=pair")


def test_figures_are_numbered_and_methods_come_with_what_to_cite():
    page = everything()
    assert "Figure 1. Skeletons." in page
    assert "<blockquote>τ &lt; 1</blockquote>" in page and CITATION in page
    assert '<meta name="generator" content="refine.py">' in page
    assert CITATION not in a_page() and ">Figures<" not in a_page()


@pytest.mark.parametrize("changes", [{"tables": []}, {"facts": {}}, {"pictures": [], "lead": []}])
def test_what_is_empty_has_no_heading(changes):
    page = a_page(**changes)
    absent = {"tables": "Numbers", "facts": "Settings and versions", "pictures": "Before and after"}
    assert f">{absent[next(iter(changes))]}<" not in page and page.count("<h2") == 2
