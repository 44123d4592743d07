"""One HTML page that needs nothing else: no network, no font, no script.

Everything that comes from outside is text until `escape` has made it HTML; functions whose names
are elements return HTML. A picture is inside the page twice, for wide and for narrow windows.
"""

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence
from string import Template
from typing import Any

from jaxpg.experiment.figures import style
from jaxpg.experiment.text import printable

PIXELS = 120  # of the page to an inch of a figure

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { --ink: #1b1f24; --faint: #57606a; --line: #d0d7de; --paper: #ffffff; --shade: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9aa4af; --line: #3d444d; --paper: #0d1117; --shade: #161b22; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .5rem; padding-top: .7rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0; }
.faint, figcaption, caption { color: var(--faint); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 2rem); }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom-width: 2px; white-space: nowrap; }
tbody th { font-weight: 600; }
td.number { white-space: nowrap; }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figcaption { margin-top: .3rem; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 4px;
  padding: .7rem .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.45; margin: .6rem 0; }
details { margin: .8rem 0; }
summary { cursor: pointer; }
a { color: inherit; }
nav ul { padding-left: 1.2rem; margin: .4rem 0; }
@media (prefers-color-scheme: dark) {
  img:not(.map) { filter: invert(.93) hue-rotate(180deg); }
}
@media (max-width: 600px) {
  table.records thead { display: none; }
  table.records, table.records tbody, table.records tr, table.records th, table.records td,
  table.records caption { display: block; }
  table.records tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table.records th, table.records td { border: 0; padding: .05rem 0; }
  table.records td::before { content: attr(data-label) ": "; color: var(--faint); }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, table { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  pre { white-space: pre-wrap; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding-right: .5rem; }
  td.number { white-space: normal; }
  img, img:not(.map) { filter: none; max-height: 22cm; width: auto; }
}
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def escape(text: str) -> str:
    """Text as HTML; what would not be seen, or would turn its direction, is written out."""
    return html.escape(printable(text, keep="\n"))


def page(title: str, parts: Iterable[str]) -> str:
    """Fills the page with its parts."""
    return PAGE.substitute(title=escape(title), body="\n".join(parts))


def heading(level: int, text: str, name: str = "") -> str:
    place = f' id="{escape(name)}"' if name else ""
    return f"<h{level}{place}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def contents(entries: Sequence[tuple[str, str]]) -> str:
    """List of links to parts of the page: id and text."""
    items = "".join(f'<li><a href="#{escape(n)}">{escape(text)}</a></li>' for n, text in entries)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], kind: str = "") -> str:
    """Table whose numbers keep together; the first cell of a row is its head.

    kind: "records" puts the cells of a row under each other where the window is narrow.
    """
    cells = "".join(f'<th scope="col">{escape(x)}</th>' for x in head)
    lines = []
    for first, *rest in rows:
        own = [f'<th scope="row">{escape(str(first))}</th>']
        for name, x in zip(head[1:], map(str, rest), strict=True):
            look = ' class="number"' if x[:1].isdigit() or x[:1] == "-" else ""
            label = f' data-label="{escape(name)}"' if kind else ""
            own.append(f"<td{look}{label}>{escape(x)}</td>")
        lines.append(f"<tr>{''.join(own)}</tr>")
    look = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll"><table{look}><caption><span>{escape(caption)}</span></caption>'
        f"<thead><tr>{cells}</tr></thead>\n<tbody>{chr(10).join(lines)}</tbody></table></div>"
    )


def code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def folded(summary: str, content: str) -> str:
    """Section that opens with a click."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def picture(draw: Callable[[float], Any], text: str, caption: str = "", kind: str = "") -> str:
    """Picture by draw(width in inches) -> Figure. text: what is to be seen, for those who cannot.

    kind: "map" keeps white paper where pages are dark, for colours that go from low to high.
    """
    wide, narrow = draw(style.WIDE), draw(style.NARROW)
    look = f' class="{kind}"' if kind else ""
    size, small = ('width="{:.0f}" height="{:.0f}"'.format(*(PIXELS * f.get_size_inches()))
                   for f in (wide, narrow))  # fmt: skip
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><picture><source media="(max-width: 600px)" srcset="{_data_url(narrow)}" {small}>'
        f'<img src="{_data_url(wide)}" {size}{look} alt="{escape(text)}">'
        f"</picture>{below}</figure>"
    )


def _data_url(figure) -> str:
    """Encodes a figure as an SVG in a URL of its own."""
    file = io.BytesIO()
    style.write_svg(figure, file)
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
