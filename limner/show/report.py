"""Reports: one HTML file that holds its pictures and plots, so it can be sent around."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from limner.core.files import replaced
from limner.show.images import Pictures, to_images
from limner.show.plot import Points, line_chart

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }
body { padding: 0 1rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; }
.lead, figcaption, .note { color: var(--soft); }
.pictures { display: flex; flex-wrap: wrap; gap: 10px; }
figure { margin: 0; } figcaption { font-size: .8rem; overflow-wrap: anywhere; }
img { image-rendering: pixelated; border-radius: 4px; background: #fff; display: block; }
table { border-collapse: collapse; } th, td { padding: .3rem .9rem .3rem 0; text-align: left; }
td + td, th + th { text-align: right; } tr { border-bottom: 1px solid var(--line); }
pre { background: #8882; padding: .8rem; border-radius: 6px; overflow-x: auto; }
.chart { width: 100%; max-width: 44rem; font: 12px system-ui, sans-serif; }
.chart text { fill: currentColor; } .chart .grid { stroke: var(--line); }
"""


class Report:
    """A page that is built from top to bottom.

    Args:
        title: of the page.
        lead: a sentence below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>", _paragraph(lead, "lead")]

    def section(self, title: str, text: str = "") -> None:
        """Begin a section."""
        self._parts += [f"<h2>{html.escape(title)}</h2>", _paragraph(text)]

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(_paragraph(text))

    def code(self, text: str) -> None:
        """Add lines of a command or a file."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; the first column names the row."""
        cells = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        self._parts.append(f"<table><tr>{cells}</tr>{body}</table>")

    def pictures(
        self,
        pictures: Pictures,
        captions: Sequence[str] = (),
        side: int = 96,
    ) -> None:
        """Add a row of pictures.

        Args:
            pictures: float [B, 1 or 3, H, W] in [-1, 1], or PIL images.
            captions: one below each; none: no captions.
            side: width in pixels at which they are shown.
        """
        figures = []
        for index, image in enumerate(to_images(pictures)):
            encoded = io.BytesIO()
            image.save(encoded, "PNG")
            caption = captions[index] if captions else ""
            figures.append(_figure(encoded.getvalue(), "png", caption, side))
        self._parts.append(f'<div class="pictures">{"".join(figures)}</div>')

    def animation(self, path: str | os.PathLike[str], caption: str = "", side: int = 480) -> None:
        """Add a GIF or WebP file."""
        file = Path(path)
        self._parts.append(_figure(file.read_bytes(), file.suffix[1:], caption, side))

    def plot(
        self,
        lines: Mapping[str, Points],
        x_label: str = "",
        y_label: str = "",
        levels: Mapping[str, float] | None = None,
    ) -> None:
        """Add a line chart; see `line_chart`."""
        self.chart(line_chart(lines, x_label, y_label, levels))

    def chart(self, chart: str) -> None:
        """Add a chart that `line_chart` drew."""
        self._parts.append(chart)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all.

        Raises:
            DataError: it cannot be written.
        """
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style>"
            f"<body>{''.join(self._parts)}</body></html>\n"
        )
        with replaced(path) as temporary:
            temporary.write_text(page, encoding="utf-8")


def _paragraph(text: str, kind: str = "") -> str:
    if not text:
        return ""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{html.escape(text)}</p>"


def _figure(content: bytes, kind: str, caption: str, side: int) -> str:
    data = base64.b64encode(content).decode("ascii")
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    picture = f'<img src="data:image/{kind};base64,{data}" width="{side}" alt="">'
    return f'<figure style="max-width:{side}px">{picture}{below}</figure>'
