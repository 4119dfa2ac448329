"""Keep a study's measurements and pictures where the documentation reads them.

    python -m benchmarks.study runs/study-orders-and-heads

writes benchmarks/results/study-orders-and-heads.json and the pictures in
docs/images/studies/orders-and-heads; `python -m tools.docs_pages` then writes docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from benchmarks.record import write
from limner.core.errors import check
from limner.make.study import list_studies
from limner.make.study_report import STRIPS, STUDY

PICTURES = Path(__file__).parents[1] / "docs" / "images" / "studies"


def main() -> None:
    """Read the command line and copy the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of `limner study`, with study.json")
    parser.add_argument("--name", help="of the study (the folder's, without study-)")
    parser.add_argument("--note", help="what else there is to say of it, on the page")
    asked = parser.parse_args()
    name = asked.name or asked.folder.resolve().name.removeprefix("study-")
    check(name in list_studies(), "name", name, f"a packaged study: {', '.join(list_studies())}")
    kept = json.loads((asked.folder / STUDY).read_text(encoding="utf-8"))
    if asked.note:
        kept["note"] = asked.note
    print(write(f"study-{name}", kept))
    (PICTURES / name).mkdir(parents=True, exist_ok=True)
    for values in kept["entries"]:
        strip = f"{values['entry']['name']}.png"
        shutil.copyfile(asked.folder / STRIPS / strip, PICTURES / name / strip)
        print(PICTURES / name / strip)


if __name__ == "__main__":
    main()
