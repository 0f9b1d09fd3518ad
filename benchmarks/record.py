"""What every benchmark leaves behind: its numbers, with the command that got them and the machine that it ran on.

``scripts/fill_numbers.py`` writes them into the texts.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from mousecmr_data._utils.atomic import dump_json, to_json_value, write_json
from mousecmr_data._utils.environment import describe_processor, list_versions

PATHS = ("--json", "--old", "--cache", "--folder", "-o", "--leaderboard", "--real", "--stack", "--figure", "--chromium")
"""Options that name places of one machine; they are not recorded."""


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option of every benchmark. The load of the machine is noted now, before the run."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, and how they were got, to FILE")
    parser.set_defaults(load=os.getloadavg()[0])
    return parser


def write_record(args: argparse.Namespace, numbers: dict[str, Any], *packages: str) -> None:
    """Print ``numbers`` and how they were got, versions of ``packages`` included; write them to ``args.json``."""
    options = sys.argv[1:]
    for name in PATHS:
        if name in options:
            del options[options.index(name) : options.index(name) + 2]
    run = {
        "script": Path(sys.argv[0]).name,
        "options": options,
        "date": datetime.datetime.now(datetime.UTC).date(),
        "processor": describe_processor(),
        "cores": os.cpu_count(),
        "load": round(args.load, 1),
        "versions": list_versions(*packages),
    }
    record = shorten(to_json_value({"run": run, **numbers}))
    print(dump_json(record))
    if args.json:
        write_json(args.json, record)


def shorten(value: Any) -> Any:
    """Return ``value`` with its numbers rounded to six digits."""
    if isinstance(value, dict):
        return {k: shorten(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shorten(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def summarize(values: list[float]) -> dict[str, float]:
    """Return median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}
