"""Write the documentation's pages that are made of facts.

    python -m tools.docs_pages

docs/systems/index.md from the registries, docs/reproduced.md from docs/published.yaml and
benchmarks/results, docs/results.md from the studies there. A test compares all with what this
writes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from limner.core.config import from_dict
from limner.core.registry import MODELS, TOKENIZERS
from limner.hub.listing import Row, list_models, list_tokenizers
from limner.hub.official import converters
from limner.make.study import list_studies, load_study
from limner.make.study_report import KIND as STUDY
from limner.make.study_report import NOTES, drawing_table, real_values, training_table
from limner.make.studying import Measured
from limner.recipes import list_recipes
from limner.verify.registry import replays

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
NOTE = "<!-- written by `python -m tools.docs_pages`; do not edit -->\n\n"
MOST = 24  # numbers of one result that are shown
ABOUT = ("date", "command", "commit", "machine", "remark", "circumstances", "settings", "ceilings")
"""What a result holds beside what was measured."""


@dataclass(frozen=True)
class Page:
    """A page on a system.

    Args:
        slug: its file without the ending.
        title: its heading.
        families: of models and tokenizers that live in files it names.
    """

    slug: str
    title: str
    families: tuple[str, ...]


def main() -> None:
    """Write all pages."""
    for path, text in pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)


def pages() -> dict[str, str]:
    """Return the text of every page by its path."""
    return {
        "docs/systems/index.md": systems_page(),
        "docs/reproduced.md": reproduced_page(),
        "docs/results.md": results_page(),
    }


# --- systems -----------------------------------------------------------------------------------


def system_pages() -> list[Page]:
    """Return the pages on systems, by slug; every family belongs to one page at most."""
    files = sorted(path for path in (DOCS / "systems").glob("*.md") if path.stem != "index")
    texts = {path.stem: path.read_text(encoding="utf-8") for path in files}
    homes: dict[str, str] = {}
    for registry, family in itertools.product((MODELS, TOKENIZERS), texts):
        if any(known.name == family for known in registry.families()):
            homes[family] = family
    for slug, text in texts.items():
        for name, file in _families().items():
            if file in text:
                homes.setdefault(name, slug)
    return [
        Page(slug, _title(text), tuple(name for name, home in homes.items() if home == slug))
        for slug, text in texts.items()
    ]


def _families() -> dict[str, str]:
    """Return the file of every family, as limner/models/NAME.py."""
    known = [family for registry in (MODELS, TOKENIZERS) for family in registry.families()]
    return {family.name: family.build.__module__.replace(".", "/") + ".py" for family in known}


def _title(text: str) -> str:
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]  # type: ignore[index]


def systems_page() -> str:
    """Return the page that lists all systems."""
    rows = list_models() + list_tokenizers()
    known = system_pages()
    homes = {family: page for page in known for family in page.families}
    lines = [
        "# Systems",
        "",
        "One page a system: what it is, when to use it, what was measured here and what was not. "
        "This page is made from the registries of models, tokenizers, recipes, converters and "
        "replays.",
        "",
        *_table(
            ("system", "slug", "status", "parameters", "recipes"),
            [_system_row(page, rows) for page in known],
        ),
        "",
        "*Reference cases* are outputs of the official code, where it is public, that "
        "`limner verify` replays; the system's page says which. *Official weights* can be "
        "converted by `limner convert`; none of the large ones were loaded here.",
        "",
        "## Everything that is known by name",
        "",
        "Parameters are counted from the module itself. What stands beside them is the published "
        "count, or, where it is written to the last digit, mostly that of the official code; it "
        "agrees if ours, rounded to its digits, is the same.",
        "",
        *_table(
            ("name", "family", "parameters", "published or official", "agrees"),
            [_variant_row(row, homes) for row in rows],
        ),
        "",
    ]
    return _text(lines)


def _system_row(page: Page, rows: Sequence[Row]) -> tuple[str, ...]:
    variants = [row for row in rows if row.family in page.families]
    counts = sorted(row.parameters for row in variants)
    parameters = "" if not counts else f"{_short(counts[0])}"
    if len(counts) > 1:
        parameters += f" to {_short(counts[-1])} ({len(counts)} variants)"
    recipes = [name for name in list_recipes() if name.split("/")[0] in (page.slug, *page.families)]
    shown = ", ".join(f"`{name}`" for name in recipes[:2])
    if len(recipes) > 2:
        shown = f"`{recipes[0]}` and {len(recipes) - 1} more"
    link = f"[{page.title}]({page.slug}.md)"
    return link, f"`{page.slug}`", ", ".join(_status(page)), parameters, shown


def _status(page: Page) -> Iterator[str]:
    """Yield what there is, as the registries know it."""
    for registry in (MODELS, TOKENIZERS):
        if any(family.name in page.families for family in registry.families()):
            yield f"{registry.kind}"
    if any(converter.family in page.families for converter in converters().values()):
        yield "official weights"
    if any(fnmatchcase(pattern, f"{page.slug}/*") for pattern in replays()):
        yield "reference cases"


def _variant_row(row: Row, homes: dict[str, Page]) -> tuple[str, ...]:
    home = homes.get(row.family)
    agrees = {True: "yes", False: "**no**", None: ""}[row.matches]
    published = row.published or ""
    published = f"{int(published):,}" if published.isdecimal() else published
    family = f"[`{row.family}`]({home.slug}.md)" if home else f"`{row.family}`"
    return f"`{row.name}`", family, f"{row.parameters:,}", published, agrees


# --- published and reproduced ------------------------------------------------------------------


def reproduced_page() -> str:
    """Return the page of what is published beside what was run here."""
    rows = [row for row in list_models() + list_tokenizers() if row.matches is not None]
    agreeing = sum(row.matches is True for row in rows)
    titles = {page.slug: page.title for page in system_pages()}
    reports = yaml.safe_load((DOCS / "published.yaml").read_text(encoding="utf-8"))
    lines = [
        "# Published and reproduced",
        "",
        "What papers report, beside what was run in this repository. Figures of this repository "
        "come from files under `benchmarks/results`, which commands have written; nothing is typed "
        "in by hand.",
        "",
        "## Published figures",
        "",
        "*Never run here* means that: no model of that size was trained or sampled, and the figure "
        "is the authors'. What was checked instead stands on each system's page: where official "
        "code is public, numbers of it on small networks (logits, losses, tokens drawn greedily or "
        "with given noise).",
        "",
    ]
    for slug in sorted(set(reports) & set(titles)):
        report = reports[slug]
        lines += [
            f"### {titles[slug]}",
            "",
            f"{report['protocol']}. Source: {report['source']}.",
            "",
        ]
        lines += _table(
            ("figure", "published", "here"),
            [(figure["what"], figure["published"], _here(figure)) for figure in report["figures"]],
        )
        lines += ["", f"[What was checked](systems/{slug}.md)", ""]
    lines += [
        "## Parameter counts",
        "",
        f"{agreeing} of {len(rows)} counts that are published, or were counted from the official "
        "code, agree with ours to their last digit; they are listed under "
        "[Systems](systems/index.md#everything-that-is-known-by-name).",
        "",
        "## Run here",
        "",
        "Small models and benches. Commands, commits and machines are those that the files name; "
        "speed and memory say something about that machine only. Studies, which set systems beside "
        "each other, are [a page of their own](results.md).",
        "",
    ]
    for file in sorted(RESULTS.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if result.get("kind") != STUDY:
            lines += _result(file.stem, result)
    return _text(lines)


def _here(figure: dict[str, Any]) -> str:
    """Return a figure that was measured here, from its file."""
    if "here" not in figure:
        return "never run here"
    file, path = figure["here"].split(" ", 1)
    value = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    for name in path.split("."):
        value = value[name]
    return f"{_number(value)} (`{file}`)"


def _result(name: str, result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines on one result: how it was measured, and its first numbers."""
    about = result.get("circumstances") or result
    machine = about.get("machine") or about
    yield f"### {name.replace('-', ' ')}"
    yield ""
    yield f"`{about.get('command', 'unknown command')}`, commit `{about.get('commit', 'unknown')}`,"
    yield f"{about.get('date', 'no date')}, {_machine(machine)}."
    if "remark" in result:
        yield f"Remark: {result['remark']}."
    yield ""
    measured = {key: value for key, value in result.items() if key not in ABOUT}
    numbers = list(_numbers(measured))
    yield from _table(("measured", "value"), numbers[:MOST])
    yield ""
    more = len(numbers) - MOST
    if more > 0:
        yield f"{more} more numbers are in `benchmarks/results/{name}.json`."
        yield ""


def _machine(facts: dict[str, Any]) -> str:
    device = facts.get("device", "cpu")
    on = "" if device in ("cpu", None) else f", {device}"
    return f"{facts.get('processor', 'unknown processor')}, {facts.get('cores', '?')} cores{on}"


def _numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of all numbers in nested dictionaries; of a mean, nothing beside it."""
    if isinstance(value, dict):
        inner = {"mean": value["mean"]} if "mean" in value else value
        for key, entry in inner.items():
            yield from _numbers(entry, path if key == "metrics" else (*path, str(key)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield ", ".join(path).replace("_", " "), _number(value)


# --- studies -----------------------------------------------------------------------------------


def results_page() -> str:
    """Return the page of systems side by side, as `limner study` measured them."""
    lines = [
        "# Results side by side",
        "",
        "Systems on equal terms: the same pictures, about as many parameters, the same budget of "
        "training, the same classes drawn from the same seeds. What a study is and how to run one: "
        "[Studies](studies.md). They are small models on small pictures: what they say holds for "
        "this size and this budget, and is no verdict on the papers.",
        "",
    ]
    for name in list_studies():
        file = RESULTS / f"study-{name}.json"
        if file.is_file():
            lines += _study(name, json.loads(file.read_text(encoding="utf-8")))
        else:
            study = load_study(name)
            lines += [f"## {study.title}", "", study.about, ""]
            lines += [f"Not run here yet: `limner study {name}` ({study.budget} each).", ""]
    return _text(lines)


def _study(name: str, kept: dict[str, Any]) -> Iterator[str]:
    """Yield the lines on one study."""
    done = [from_dict(Measured, values) for values in kept["entries"]]
    about, (least, most) = kept["circumstances"], kept["parameters"]
    measured = sorted({(each.circumstances["date"], each.circumstances["commit"]) for each in done})
    when = ", ".join(f"{date} at commit `{commit}`" for date, commit in measured)
    threads = sorted({each.drawing.threads for each in done})
    yield from (f"## {kept['title']}", "", kept["about"], "")
    yield (
        f"{kept['budget']} each, {least:,} to {most:,} parameters, {kept['samples']:,} pictures "
        f"drawn by each. `{about['command']}`, measured {when}; {_machine(about)}, "
        f"{', '.join(map(str, threads))} threads." + f" {kept.get('note', '')}".rstrip()
    )
    yield ""
    yield from _table(*training_table(done))
    yield ""
    yield from _table(*drawing_table(done))
    yield from ("", f"{real_values(done)} {NOTES}".strip(), "")
    strips = [(each.entry.name, f"![{each.entry.name}]({_strip(name, each)})") for each in done]
    yield from _table(("", "drawn: a column has one class"), strips)
    yield ""


def _strip(study: str, measured: Measured) -> str:
    """Return where the pictures of an entry are, as the page names them."""
    return f"images/studies/{study}/{measured.entry.name}.png"


# --- text --------------------------------------------------------------------------------------


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _short(count: int) -> str:
    """Return a count with three digits, as 111M."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cells) + " |"


def _text(lines: Sequence[str]) -> str:
    return NOTE + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
