"""One HTML document that holds everything it shows: pictures, tables, a before/after slider. It loads nothing.

The slider is two pictures and a range input, moved by touch, mouse and keyboard; with scripts off both pictures are
shown. The same arguments give the same document.
"""

import base64
import html
from typing import NamedTuple

from maeref_jax.report.canvas import HIDDEN_COLOUR
from maeref_jax.report.methods_section import CITATION
from maeref_jax.report.table import html_table


class Picture(NamedTuple):
    """PNG bytes and the caption a reader needs."""

    png: bytes
    caption: str


class Slider(NamedTuple):
    """Two pictures of one size to compare, PNG bytes, the caption, and what the two are called."""

    before: bytes
    after: bytes
    caption: str
    names: tuple[str, str] = ("before", "after")


def html_page(
    *,
    title,
    lead,
    pictures,
    tables,
    classes,
    facts,
    figures=(),
    methods="",
    generator="",
    warnings=(),
    outline="hidden tokens (outline)",
):
    """The whole report as one HTML document.

    title: str. warnings: sentences, above all else. lead: paragraphs, the result in words first. pictures: Pictures,
    Sliders, str for headings between them, and tuples of Pictures and Sliders that stand beside each other where there
    is room. tables: list of Table. classes:
    {"names", "colours"}. facts: {section: {key: value}}, settings and versions, shown folded. figures: Pictures, to be
    numbered. methods: of methods.methods_paragraph. generator: what made the page. outline: what is outlined.
    """
    swatches = zip(classes["names"], classes["colours"], strict=True)
    legend = "".join(_swatch(name, colour) for name, colour in swatches)
    legend += _swatch(outline, HIDDEN_COLOUR)
    numbered = [one._replace(caption=f"Figure {i}. {one.caption}") for i, one in enumerate(figures, 1)]
    cite = f"<p><b>How to cite.</b> {html.escape(CITATION)}</p>"
    shown = "Before and after" if classes["names"] else "Pictures"
    parts = {
        shown: [f"<p class=legend>{legend}</p>", *map(_shown, pictures)] if pictures else [],
        "Numbers": list(map(html_table, tables)),
        "Figures": list(map(_picture, numbered)),
        "For your methods section": [f"<blockquote>{html.escape(methods)}</blockquote>{cite}"] if methods else [],
        "Settings and versions": [_facts(section, values) for section, values in facts.items()],
    }
    parts = {heading: part for heading, part in parts.items() if part}
    links = "".join(f'<a href="#part{i}">{heading}</a>' for i, heading in enumerate(parts))
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [_warned(warnings)] if warnings else []
    body += [f"<p class=lead>{html.escape(paragraph)}</p>" for paragraph in lead]
    body += [f"<nav>{links}</nav>"] if len(parts) > 1 else []
    for i, (heading, part) in enumerate(parts.items()):
        body += [f"<h2 id=part{i}>{heading}</h2>", *part]
    made = f'<meta name="generator" content="{html.escape(generator)}">' if generator else ""
    # The class comes before the first slider: nothing jumps. Without scripts it never comes.
    slides = any("<figure class=slider>" in part for part in body)
    script = f"<script>{_SCRIPT}</script>" if slides else ""
    first = "<script>document.documentElement.className='scripted'</script>" if slides else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{made}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{first}</head>\n<body><main>\n"
        + "\n".join(body)
        + f"\n</main>{script}</body></html>\n"
    )


def _warned(warnings):
    lines = "".join(f"<li>{html.escape(one)}</li>" for one in warnings)
    return f"<section class=warned role=note><b>Warning{'s' * (len(warnings) > 1)}</b><ul>{lines}</ul></section>"


def _facts(section, values):
    lines = "".join(
        f"<tr><th scope=row>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<details><summary>{html.escape(section)}</summary><table class=facts>{lines}</table></details>"


def _shown(shown):
    if isinstance(shown, str):
        return f"<h3>{html.escape(shown)}</h3>"
    if isinstance(shown, tuple) and not isinstance(shown, Slider | Picture):
        return f"<div class=beside>{''.join(map(_shown, shown))}</div>"
    return _slider(shown) if isinstance(shown, Slider) else _picture(shown)


def _swatch(name, colour):
    return f'<span><i style="background:rgb{tuple(int(part) for part in colour)}"></i>{html.escape(name)}</span>'


def _image(png, said):
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(said)}" src="data:image/png;base64,{data}">'


def _picture(picture):
    caption = html.escape(picture.caption)
    return f"<figure>{_image(picture.png, picture.caption)}<figcaption>{caption}</figcaption></figure>"


def _slider(slider):
    pictures = "".join(
        f"<div class={kind}>{_image(png, name)}<b>{html.escape(name)}</b></div>"
        for kind, png, name in zip(("one", "other"), (slider.before, slider.after), slider.names, strict=True)
    )
    told = html.escape(f"from {slider.names[0]} to {slider.names[1]}")
    return (
        f"<figure class=slider><div class=pair>{pictures}</div>"
        f'<input type=range min=0 max=100 value=50 aria-label="{told}">'
        f"<figcaption>{html.escape(slider.caption)}</figcaption></figure>"
    )


_SCRIPT = """
document.querySelectorAll('.slider').forEach(function (figure) {
  var pair = figure.querySelector('.pair'), range = figure.querySelector('input');
  function show() { pair.style.setProperty('--at', range.value + '%'); }
  function follow(event) {
    var box = pair.getBoundingClientRect();
    range.value = 100 * (event.clientX - box.left) / box.width;
    show();
  }
  range.addEventListener('input', show);
  pair.addEventListener('pointerdown', function (event) {
    event.preventDefault(); pair.setPointerCapture(event.pointerId); follow(event); range.focus({preventScroll: true});
  });
  pair.addEventListener('pointermove', function (event) { if (event.buttons) follow(event); });
  show();
});
"""
_STYLE = """
body { margin: 0; background: #f4f4f2; color: #1c1c1c;
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 2rem 2.5rem 4rem; background: #fff; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { margin: 2.5rem 0 .8rem; font-size: 1.35rem; }
h3 { margin: 1.8rem 0 .5rem; font-size: 1.05rem; overflow-wrap: anywhere; }
.lead { max-width: 75ch; margin: .5rem 0; } .lead:first-of-type { font-size: 1.15rem; }
.warned { max-width: 80ch; margin: 0 0 1.2rem; padding: .8rem 1.2rem; border-left: 4px solid #d53c28;
  background: #fdf1ee; }
.warned ul { margin: .3rem 0 0; padding-left: 1.2rem; }
nav { margin: 1.2rem 0 0; } nav a { display: inline-block; margin: 0 1.2rem .3rem 0; color: #a0006c; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1.5rem; align-items: start; }
.beside figure { margin-bottom: 1.2rem; }
.legend span { display: inline-block; margin-right: 1.4rem; white-space: nowrap; }
.legend i { display: inline-block; width: .95em; height: .95em; margin-right: .45em; border: 1px solid #555;
  vertical-align: -.12em; }
figure { margin: 1rem 0 2.2rem; } img { display: block; max-width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: .93rem; max-width: 85ch; }
figcaption { margin-top: .4rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; max-width: 900px; }
.pair div { position: relative; } .slider img { width: 100%; image-rendering: pixelated; }
.pair b { position: absolute; top: .5rem; left: .5rem; padding: .05rem .5rem; border-radius: .3rem;
  background: #000b; color: #fff; font-size: .85rem; font-weight: 600; }
.slider input { display: none; }
.scripted .slider { max-width: 640px; }
.scripted .pair { display: block; position: relative; --at: 50%; cursor: ew-resize; touch-action: pan-y;
  user-select: none; }
.scripted .pair .other { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.scripted .pair .other b { left: auto; right: .5rem; }
.scripted .pair::after { content: ""; position: absolute; top: 0; bottom: 0; left: calc(var(--at) - 1.5px);
  width: 3px; background: #fff; box-shadow: 0 0 0 1px #0009; pointer-events: none; }
.scripted .slider input { display: block; width: 100%; height: 2rem; margin: .3rem 0 0; accent-color: #c00084; }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 2px solid #c00084; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .8rem; text-align: right; border-bottom: 1px solid #e3e3df; white-space: nowrap; }
th:first-child { text-align: left; font-weight: inherit; } thead th { border-bottom: 2px solid #888; }
thead th, thead th:first-child { font-weight: 600; } .strong { background: #eef6ee; font-weight: 600; }
.group th { padding-top: .9rem; color: #555; font-style: italic; }
.long { white-space: normal; min-width: 22em; text-align: left; }
blockquote { margin: .5rem 0; padding: .8rem 1.2rem; border-left: 4px solid #c00084; background: #faf5f8;
  max-width: 80ch; user-select: all; overflow-wrap: anywhere; }
details { margin: .4rem 0; } summary { cursor: pointer; padding: .2rem 0; overflow-wrap: anywhere; }
.facts { table-layout: fixed; width: 100%; }
.facts th, .facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.facts th { width: 35%; font-weight: inherit; }
@media (max-width: 900px) { .beside { grid-template-columns: minmax(0, 1fr); gap: 0; } }
@media (max-width: 700px) { main { padding: 1.2rem; } h1 { font-size: 1.5rem; }
  th, td { padding: .3rem .5rem; } .long { min-width: 15em; }
  html:not(.scripted) .pair { grid-template-columns: 1fr; } }
@media print { .scripted .pair { display: grid; } .scripted .pair .other { position: relative; clip-path: none; }
  .scripted .pair::after, .scripted .slider input { display: none; } }
"""
