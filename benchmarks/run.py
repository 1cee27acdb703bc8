"""`make bench`: what docs/performance.md shows, each figure beside what it is meant to reach.

    python benchmarks/run.py                       everything, in less than ten minutes
    python benchmarks/run.py --only lag idle       some measures
    python benchmarks/run.py --quick               fewer rows and rounds, to see that everything runs
    python benchmarks/run.py --write               also write the table and the plots into docs/performance.md

Machines differ and are shared, so compare ratios. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import Measured, as_text
from measures import MEASURES
from page import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASURES, metavar="NAME", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="print a JSON document instead of a table")
    parser.add_argument("--write", action="store_true", help="replace the figures of these measures in the page")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("the page shows figures of whole runs: leave out --quick")
    measured: dict[str, Measured] = {}
    try:
        for name in options.only or MEASURES:
            begun = time.monotonic()
            print(f"measuring {name} …", end=" ", file=sys.stderr, flush=True)
            measured[name] = MEASURES[name](quick=options.quick)
            print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            if options.write:
                write({name: measured[name]}, MEASURES)
    finally:  # also what was measured before a failure or Ctrl-C
        if options.json:
            document = {name: asdict(result) for name, result in measured.items()}
            print(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            print(as_text(figure for result in measured.values() for figure in result.figures))


if __name__ == "__main__":
    main()
