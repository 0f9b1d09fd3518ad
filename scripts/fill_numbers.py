"""Write the numbers that benchmarks measured into the texts: python scripts/fill_numbers.py [--measure [NAME ...]]

``benchmarks/NAME.json`` is the record of one run of a script of ``benchmarks/``. Texts have marked blocks,
``<!-- numbers:NAME -->`` (or ``NAME.PART``) to ``<!-- end -->``, in TOML ``# numbers:NAME`` to ``# end``; this script
replaces what is between. ``--measure`` first measures NAME again, with the options of its record; without a name, every
record of weights that are no longer those of the package: this is the one command after new weights. A test fails if
this script would change a text. Do not edit a block by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks"
CARD = ROOT / "mousecmr_data" / "inference" / "weights" / "phantom-small.toml"
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    RECORDS / "RESULTS.md",
    *sorted((ROOT / "docs").glob("*.md")),
    CARD,
)
BLOCK = re.compile(
    r"(<!-- numbers:([\w.]+) -->|^# numbers:([\w.]+)\n)(.*?)(<!-- end -->|^# end$)", re.DOTALL | re.MULTILINE
)
STRUCTURES = ("LV myocardium", "LV blood pool")
NOT_MEASURED = ["Not measured yet: it needs a machine without other work."]
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--measure", nargs="*", metavar="NAME", help="measure again before (default: new weights)")
    parser.add_argument("--cache", help="a folder with phantom mice, for --measure")
    args = parser.parse_args()
    if args.measure is not None:
        for name in args.measure or find_outdated():
            measure(name, args.cache)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            page.write_text(filled, encoding="utf-8")
            print(f"changed: {page.relative_to(ROOT)}")


def read_record(name: str) -> Record:
    """Return the record of a run."""
    return dict(json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")))


def find_outdated() -> list[str]:
    """Return the names of the records of ``phantom-small`` with other weights than the package has now."""
    sha256 = tomllib.loads(CARD.read_text(encoding="utf-8"))["weights"]["sha256"]
    records = {path.stem: read_record(path.stem) for path in sorted(RECORDS.glob("*.json"))}
    return [n for n, r in records.items() if r.get("weights") == "phantom-small" and r.get("sha256", sha256) != sha256]


def measure(name: str, cache: str | None) -> None:
    """Run the script of a record again, with the same options; without a record, the script of that name."""
    found = (RECORDS / f"{name}.json").is_file()
    run: Record = read_record(name)["run"] if found else {"script": f"{name}.py", "options": []}
    words = [sys.executable, RECORDS / run["script"], *run["options"], "--json", RECORDS / f"{name}.json"]
    script = (RECORDS / run["script"]).read_text(encoding="utf-8")
    words += ["--cache", cache] if cache and '"--cache"' in script else []
    subprocess.run([str(w) for w in words], cwd=ROOT, check=True)


def fill(text: str) -> str:
    """Return ``text`` with its blocks made anew."""

    def make(match: re.Match[str]) -> str:
        begin, name, of_card, _, end = match.groups()
        block = name or of_card
        record = block.partition(".")[0]
        lines = BLOCKS[block](read_record(record)) if (RECORDS / f"{record}.json").is_file() else NOT_MEASURED
        content = lines if isinstance(lines, str) else "\n".join(lines)
        if of_card:
            return f"{begin}{content}\n{end}"
        return f"{begin}{content}{end}" if isinstance(lines, str) else f"{begin}\n{content}\n{end}"

    return BLOCK.sub(make, text)


# Parts of blocks


def describe_command(record: Record) -> str:
    """Return the command of a run."""
    return f"`python {shlex.join(['benchmarks/' + record['run']['script'], *record['run']['options']])}`"


def describe_run(record: Record) -> str:
    """Return the command, the machine and the versions of a run."""
    run = record["run"]
    versions = ", ".join(f"{name} {v}" for name, v in run["versions"].items() if name != "mousecmr-data")
    processor = f"{run['processor']}, {run['cores']} cores, load {run['load']:.1f} before"
    return f"{describe_command(record)}, {run['date']}; {processor}; {versions}."


def tabulate(header: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return a table in Markdown."""
    header = list(header)
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return [line.replace("|  |", "| |") for line in lines + ["| " + " | ".join(map(str, r)) + " |" for r in rows]]


def tabulate_run(record: Record, header: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return how a run was made, and its table."""
    return [describe_run(record), "", *tabulate(header, rows)]


def format_range(value: dict[str, float], digits: int) -> str:
    """Return a median with its range."""
    return f"{value['median']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def format_signed(value: float, digits: int) -> str:
    """Return a number with its sign; zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def format_mean(numbers: list[float | None]) -> str:
    """Return mean ± SD; the mean alone where there is no SD."""
    return " ± ".join(f"{n:.3f}" for n in numbers if n is not None)


# One function for each block


def tabulate_accuracy(record: Record) -> list[str]:
    rows = [(name, c["n"], *(format_mean(c["dice"][s]) for s in STRUCTURES)) for name, c in record["cohorts"].items()]
    keys = ("weights", "postprocessing", "phases", "region", "engine")
    options = ", ".join([f"sha256 {record['sha256'][:12]}", *(f"{key} {record[key]}" for key in keys)])
    return [
        f"{describe_command(record)}: {options}.",
        "",
        *tabulate(("mice, never trained on", "n", *STRUCTURES), rows),
    ]


def describe_mass(record: Record) -> str:
    mass = record["cohorts"]["phantom, split test"]["agreement"]["mass at ED"]
    p = "p < 0.001" if mass["p"] < 0.001 else f"p = {mass['p']:.3f}"
    return f"{format_signed(mass['bias'], 1)} mg at ED ({p}, ICC(2,1) {mass['icc_2_1']:.2f})"


def describe_accuracy_in_card(record: Record) -> list[str]:
    lines = []
    for name, cohort in record["cohorts"].items():
        dice = ", ".join(format_mean(cohort["dice"][s]) for s in STRUCTURES)
        lines.append(f'"{name}" = "{dice} ({cohort["n"]} {"mouse" if cohort["n"] == 1 else "mice"})"')
    return [*lines, f'"bias of the mass, phantom, split test" = "{describe_mass(record)}"']


def tabulate_slices(record: Record) -> list[str]:
    """Return Dice by slice position (myocardium / blood pool), with the post-processing of ``segment``."""
    rows = []
    for name, rules in record["results"][record["weights"]].items():
        if name != "check_slice":
            numbers = rules["slice-range"]
            dice = (" / ".join(f"{v:.3f}" for v in numbers[key]) for key in ("dice", "base", "middle", "apex"))
            rows.append((name, numbers["mice"], *dice, f"{100 * numbers['present']:.1f} %"))
    header = ("mice, never trained on", "n", "all slices", "base", "middle", "apex", "ventricle or none right")
    return tabulate_run(record, header, rows)


CORRUPTIONS = ("noise", "ghosting", "blur", "bias-field", "low-resolution", "missing-slices")


def tabulate_first_table(record: Record) -> list[str]:
    """Return Dice of each network on the images as they are and at the highest severity, in the order of the ranks."""
    robust = record["robust"]
    dice = {(row["method"], row["condition"]): row["mean"] for row in robust["by_condition"]}
    cost = {row["method"]: row for row in robust["cost"]}
    rows = []
    for row in robust["ranking"]:
        name = row["method"]
        interval = f"{row['mean']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})"
        worst = [f"{dice[name, f'{c}-5']:.3f}" for c in CORRUPTIONS]
        rows.append([name, f"{cost[name]['parameters'] / 1e6:.2f}", interval, f"{dice[name, 'clean']:.3f}", *worst])
    header = [
        "network",
        "million parameters",
        "mean of 31 conditions (95 % CI)",
        "clean",
        *(f"{c} 5" for c in CORRUPTIONS),
    ]
    return tabulate_run(record, header, rows)


def tabulate_few_mice(record: Record) -> list[str]:
    """Return Dice of each network by the number of training mice."""
    few = record["few"]
    dice = {(row["method"], int(row["part"].split("-")[1])): row["mean"] for row in few["by_part"]}
    sizes = sorted({size for _, size in dice})
    names = [row["method"] for row in few["ranking"]]
    rows = [[name, *(f"{dice[name, size]:.3f}" for size in sizes)] for name in names]
    return tabulate_run(record, ["network", *(f"{size} mice" for size in sizes)], rows)


def describe_check_slice(record: Record) -> str:
    """Return what the flag of :mod:`mousecmr_data.pipeline.quality` finds."""
    share = record["results"][record["weights"]]["check_slice"]
    found, alarms = (f"{100 * share[k]:.0f} %" for k in ("found", "alarms"))
    return f"{found} of the slices with a Dice below 0.7, and {alarms} of the others"


def describe_slices_in_card(record: Record) -> list[str]:
    lines = []
    for name, rules in record["results"][record["weights"]].items():
        if name != "check_slice":
            numbers = rules["slice-range"]
            dice = ", ".join(f"{k} {v[0]:.3f} / {v[1]:.3f}" for k in ("base", "middle", "apex") if (v := numbers[k]))
            n = numbers["mice"]
            lines.append(f'"{name}, by slice position" = "{dice} ({n} {"mouse" if n == 1 else "mice"})"')
    return lines


def tabulate_arrays(record: Record) -> list[str]:
    rows = []
    for title, key in (("ten random labelled slices, image and mask", "ten slices"), ("a whole cine", "cine")):
        ours = record[key]["ours"]["median"]
        rows += [
            (f"{title}, {storage}", *(f"{v:.1f}" for v in (theirs, ours)), f"{theirs / ours:.1f}")
            for storage in ("contiguous", "gzip")
            if (theirs := record[key][storage]["median"])
        ]
    return tabulate_run(record, ("", "h5py, ms", "this library, ms", "times faster"), rows)


def describe_opening(record: Record) -> str:
    return f"{record['opening 130 mice, s']:.2f} s"


def describe_conversion(record: Record) -> str:
    conversion = record["conversion"]
    speed, size = f"{conversion['speed']:.2f}", f"{conversion['size']:.2f}"
    return f"speed {speed} of reading and compressing alone, size on disk {size} of raw"


def tabulate_checksums(record: Record) -> list[str]:
    rows = [
        (
            name,
            *(f"{r[k]:.2f}" for k in ("cpu", "cpu_checked")),
            format_signed(100 * (r["cpu_checked"] / r["cpu"] - 1), 1),
        )
        for name, r in record["reads"].items()
    ]
    return tabulate_run(record, ("read", "without, ms", "with, ms", "more, %"), rows)


def tabulate_loaders(record: Record) -> list[str]:
    bound = next(iter(record["loaders"].values()))["rate"]
    rows = [
        (
            name,
            f"{r['rate']:,.0f}",
            f"{r['rate'] / bound:.3f}",
            f"{r['ratio']:.2f}" if "ratio" in r else "",
            f"{r['rss']:.0f}",
        )
        for name, r in record["loaders"].items()
    ]
    header = ("", "samples/s", "relative to memcpy", "× CacheDataset of the same type, turn by turn", "peak MB")
    return tabulate_run(record, header, rows)


def tabulate_training_input(record: Record) -> list[str]:
    rows = []
    for kind, r in ((k, v) for k, v in record.items() if isinstance(v, dict) and k != "run"):
        for clock, name in (("cpu", "processor time"), ("wall", "wall time")):
            old, new, ratio = (format_range(r[k][clock], d) for k, d in (("old", 0), ("new", 0), ("ratio", 1)))
            two = (format_range(r["two workers"]["ratio"], 2), format_range(r["two workers"]["cores"], 2))
            rows.append((kind, name, old, new, ratio, *(two if clock == "wall" else ("", ""))))
    header = ("augmentation", "samples/s of", "before", "now", "ratio", "two workers, ratio to one", "cores they had")
    return [*tabulate_run(record, header, rows), "", f"Before: commit {record['old commit']}."]


def describe_training_input(record: Record) -> str:
    r = record["paper"]
    new, old = r["new"]["cpu"]["median"], r["old"]["cpu"]["median"]
    return f"{new:.0f} samples a second of processor time with the article's augmentation, one by one {old:.0f}"


def tabulate_download(record: Record) -> list[str]:
    rates = record["MB/s"]
    rows = [(name, f"{rate:.0f}", f"{rates['mousecmr'] / rate:.2f}") for name, rate in rates.items()]
    return tabulate_run(
        record, (f"{record['files']} files of {record['megabytes']} MB", "MB/s", "mousecmr, relative"), rows
    )


def tabulate_huggingface(record: Record) -> list[str]:
    titles = {
        "naive": 'Array2D Parquet, `with_format("torch")`',
        "table": 'table of this library, `with_format("torch")`',
        "float32": "`torch_samples`, float32",
        "uint16": "`torch_samples`, uint16",
    }
    rates = record["rates"]

    def describe(name: str, way: str) -> str:
        return f"{rates[name][way]:,.0f} ({rates[name][way] / rates['naive'][way]:.1f} ×)"

    rows = [(title, describe(name, "row"), describe(name, "batches")) for name, title in titles.items()]
    header = (f"{record['slices']} slices, samples/s", "one row at random", "DataLoader, batch 16, shuffled")
    return tabulate_run(record, header, rows)


def describe_streaming(record: Record) -> str:
    streaming = record["streaming"]
    return f"{streaming['first sample, s']:.2f} s at {streaming['MB/s']:.0f} MB/s"


def describe_huggingface(record: Record) -> str:
    rates = record["rates"]
    row, batches = (rates["float32"][way] / rates["naive"][way] for way in ("row", "batches"))
    return f"{batches:.1f} times the rate in a DataLoader with `collate`, {row:.1f} times row by row (float32)"


def tabulate_engines(record: Record) -> list[str]:
    speed, rows = record["GFLOP/s"], []
    for name, r in record["engines"].items():
        ratios = (f"{r['wall_ratio']:.1f}", f"{r['cpu_ratio']:.1f}", f"{100 * r['cpu_share']:.0f} %", f"{r['gib']:.2f}")
        rows.append((name, f"{r['wall_ms']:.0f}", *ratios, f"{r['first_cold_s']:.1f}", f"{r['first_warm_s']:.1f}"))
    header = ["engine", "ms per slice", "× eager", "× eager, processor time", "of the matrix product", "peak GiB"]
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in speed.items())
    return [
        describe_run(record) + f" Weights: {record['weights']}. Matrix product, GFLOP/s per core: {rates}.",
        "",
        *tabulate([*header, "first frame, empty cache, s", "warm cache, s"], rows),
    ]


def describe_arithmetic(record: Record) -> str:
    counts = record["GFLOP"]
    return f"{counts['published']:.0f} GFLOP for a slice as published, {counts['restructured']:.0f} restructured"


def tabulate_gate(record: Record) -> list[str]:
    rows = []
    for name, r in record["engines"].items():
        for stack, g in zip(("phantom", "real"), r.get("gate", ()), strict=False):
            ef = "" if g["ef_points"] is None or stack == "real" else f"{g['ef_points']:.2f}"
            rows.append((name, stack, f"{100 * g['same_pixels']:.4f}", f"{g['dice']:.4f}", ef, f"{g['logit']:.1e}"))
    header = ("engine", "stacks", "same label, %", "lowest Dice", "EF, points", "largest difference of logits")
    return tabulate_run(record, header, rows)


def tabulate_region(record: Record) -> list[str]:
    rows = [("eager, whole field", f"{record['eager_s']:.1f}", "1", "", "", "")]
    for name, r in record["engines"].items():
        dice, ef = ", ".join(f"{d:.3f}" for d in r["dice"]), format_signed(r["ef"], 2)
        rows.append(
            (
                f"{name}, region",
                format_range(r["s"], 1),
                f"{record['eager_s'] / r['s']['median']:.1f}",
                dice,
                ef,
                f"{r['GB']:.2f}",
            )
        )
    header = ("", "seconds per cine", "× eager", "Dice to the whole field", "EF, points", "peak GB")
    return tabulate_run(record, header, rows)


def describe_speed(record: Record) -> str:
    auto = record["engines"]["openvino"]["s"]["median"]
    return f"takes {auto:.1f} s instead of {record['eager_s']:.0f} s ({record['eager_s'] / auto:.0f} times faster)"


def tabulate_agreement_of_region(record: Record) -> list[str]:
    rows = []
    for mouse, engines in record["mice"].items():
        windows = {" × ".join(map(str, e["window"])) if e["window"] else "whole field" for e in engines.values()}
        cells = [
            f"{', '.join(f'{d:.3f}' for d in e['dice'])}; {e['lowest']:.3f}; {format_signed(e['ef'], 2)}"
            for e in engines.values()
        ]
        rows.append((mouse, " or ".join(sorted(windows)), *cells))
    first, *others = next(iter(record["mice"].values()))
    return tabulate_run(
        record, ("mouse", "window", f"`{first}`: Dice; lowest of a frame; EF", *(f"`{o}`" for o in others)), rows
    )


def tabulate_segment(record: Record) -> list[str]:
    titles = {
        "drop to listed": "page: drop until listed",
        "button to zip": "page: button until the zip is on the disk",
        "drop to zip": "page: drop to zip",
        "command": "`mousecmr segment`, from start to end of the process",
    }
    return tabulate_run(record, ("", "s"), [(title, format_range(record[k], 1)) for k, title in titles.items()])


def describe_page(record: Record) -> str:
    return f"{record['drop to zip']['median']:.0f} s with `{record['weights']}`"


def tabulate_job(record: Record) -> list[str]:
    titles = {
        "info": "`mousecmr info`",
        "measure": "`mousecmr measure` of one HDF5 file",
        "nifti": "`mousecmr segment`, NIfTI",
        "dicom": "`mousecmr segment`, 198 DICOM files",
    }
    rows = [
        (title, *(format_range(record[job][s][kind], 1) for kind in ("wall", "processor") for s in ("old", "new")),
         format_range(record[job]["ratio"]["wall"], 1), format_range(record[job]["ratio"]["processor"], 1))
        for job, title in titles.items()
        if job in record
    ]  # fmt: skip
    header = ("", "s before", "s now", "processor s before", "now", "ratio", "of processor time")
    return [*tabulate_run(record, header, rows), "", f"Before: commit {record['old commit']}."]


def tabulate_scale(record: Record) -> list[str]:
    columns = [name for name in record if name.endswith("mice")]
    rows = [(name, *(f"{record[c][name]:.3g}" for c in columns)) for name in record[columns[0]]]
    return tabulate_run(record, ("", *columns), rows)


def tabulate_cluster(record: Record) -> list[str]:
    rows = [
        (n, *(f"{r[k]:.3g}" for k in ("mice per hour", "processor s a mouse"))) for n, r in record["workers"].items()
    ]
    return tabulate_run(record, ("workers", "mice per hour", "processor seconds a mouse"), rows)


def tabulate_reading(record: Record) -> list[str]:
    rows = [
        (
            f"{name}, {r['files']} files" if r["files"] > 1 else name,
            *(format_range(r[k], 0) for k in ("here", "child", "added")),
        )
        for name, r in record["formats"].items()
    ]
    rows.append(("start of a child, once per run", "", format_range(record["start"], 0), ""))
    return tabulate_run(record, ("ms", "this process", "child", "added"), rows)


def tabulate_dicom(record: Record) -> list[str]:
    rows = [
        ("pydicom alone, s", format_range(record["pydicom"], 2)),
        ("finding and reading, s", format_range(record["ours"], 2)),
    ]
    rows.append(("ratio", format_range(record["ratio"], 1)))
    return tabulate_run(record, (f"{record['files']} files, {record['MB']:.0f} MB", "processor time"), rows)


def tabulate_evaluation(record: Record) -> list[str]:
    rows = [
        (f"`{r['phases']}`, `{r['postprocessing']}`", r["mice"], f"{r['s']:.0f}", f"{r['cpu_s']:.0f}", f"{r['GB']:.2f}")
        for r in record["runs"]
    ]
    header = ("ED/ES, post-processing", "mice", "s", "processor time, s", "peak GB of all processes")
    return tabulate_run(record, header, rows)


def tabulate_volumes(record: Record) -> list[str]:
    measures = ("edv_ul", "esv_ul", "sv_ul", "ef_percent", "mass_ed_mg", "mass_es_mg")
    rows = [
        (group, r["n"], *(f"{r[m][0]:.1f} ± {r[m][1]:.1f}" for m in measures)) for group, r in record["volumes"].items()
    ]
    header = ("", "mice", "EDV (µL)", "ESV (µL)", "SV (µL)", "EF (%)", "mass ED (mg)", "mass ES (mg)")
    return [f"{describe_command(record)}:", "", *tabulate(header, rows)]


def describe_counts(record: Record) -> str:
    counts = record["counts"]
    labelled = f"{counts['labelled frames']:,} labelled frames with {counts['labelled images']:,} images"
    return f"{counts['images']:,} images in all; {labelled}, of which {counts['not empty']:,} have a non-empty mask"


def tabulate_images(record: Record) -> list[str]:
    rows = []
    for name, values in record["images"].items():
        real, low, high = (str(v) if isinstance(v, int) else f"{v:.2f}" for v in values)
        rows.append((name, real, f"{low} to {high}"))
    return tabulate(("", "real stack", "phantom"), rows)


def tabulate_outcomes(key: str) -> Callable[[Record], list[str]]:
    """Return the function that tabulates the outcomes of simulated verdicts."""

    def make(record: Record) -> list[str]:
        outcomes = ("agrees", "better", "differs")
        rows = ((r["network"], r["n"], *(f"{100 * r[o]:.1f}" for o in outcomes)) for r in record[key])
        return tabulate(("network", "mice", *outcomes), rows)

    return make


def tabulate_comparisons(record: Record) -> list[str]:
    rows = ((f"{100 * r['gain of B']:.0f} %", r["n"], f"{100 * r['any row better']:.1f}") for r in record["compare"])
    return tabulate(("gain of B", "mice", "any row better"), rows)


def tabulate_intervals(record: Record) -> list[str]:
    names = ("mean", "bias", "upper limit")
    rows = ((r["n"], *("none" if r[k] is None else f"{100 * r[k]:.1f}" for k in names)) for r in record["intervals"])
    return tabulate(("mice", "mean", "bias", "limit of agreement"), rows)


def tabulate_review(record: Record) -> list[str]:
    rows = [
        (f"{name} error of {text}", *(f"{record[f'{key}_error_{when}'][name]:.2f}" for when in ("before", "after")))
        for key, text in (("ef", "EF, points"), ("edv_ul", "EDV, µL"), ("esv_ul", "ESV, µL"))
        for name in ("mean", "worst")
    ]
    curve = record["curve_error_ul"]
    rows += [
        ("mean error of the volumes of all frames, µL", f"{curve['before']:.2f}", f"{curve['after']:.2f}"),
        ("the same, exclusions carried through the beat", "", f"{curve['carried']:.2f}"),
    ]
    rows += [
        (f"Dice, frames {k} corrected", f"{d['left']:.3f}", f"{d['propagated']:.3f}") for k, d in record["dice"].items()
    ]
    what = f"{describe_command(record)}: {record['n']} mice of the phantom's split test, {record['weights']}."
    left = [
        (stage if k == 0 else f"the same, and {stage}", f"{error:.2f}")
        for k, (stage, error) in enumerate(record["ef_error_with_truth"].items())
    ]
    return [
        *(what, "", *tabulate(("", "network alone", "reviewed, or propagated"), rows), ""),
        f"Masks proposed for {record['proposed']['n']} ticked slices: Dice {record['proposed']['dice']:.2f}.",
        *("", *tabulate(("masks of the truth in", "mean error of EF, points"), left)),
    ]


def tabulate_screen(record: Record) -> list[str]:
    heads = next(iter(record["times_ms"].values()))
    rows = [
        (f"{size} × {size}", *(f"{t['median']:.0f} ({t['95 %']:.0f})" for t in times.values()))
        for size, times in record["times_ms"].items()
    ]
    what = f"{record['frames']} × {record['slices']} slices; ms, median (95th percentile)."
    return [f"{describe_run(record)} {what}", "", *tabulate(("pixels", *heads), rows)]


def tabulate_tuning(record: Record) -> list[str]:
    others, tuned = record["others"], record["left_out"]
    rows = [
        (f"the {others['n']} others: {name}", *(format_mean(others[w][name]) for w in ("before", "after")))
        for name in (*STRUCTURES, "mean")
    ]
    rows.append((f"{record['reviewed']['mice']} reviewed, {record['method']}", *(f"{v:.3f}" for v in tuned.values())))
    return tabulate_run(record, ("Dice", "before", "after"), rows)


def describe_tuning(record: Record) -> str:
    others, seconds = record["others"], record["seconds"]
    change = f"{others['before']['mean'][0]:.3f} to {others['after']['mean'][0]:.3f}"
    gain = f"{format_mean(others['gain']['mean'])} (mean ± SD), better in {others['better']} of {others['n']}"
    time = f"{seconds['processor'] / 60:.0f} min of processor time, {seconds['wall'] / 60:.0f} min on two busy cores"
    return f"{change}, by {gain}; {time}"


def describe_coverage(record: Record) -> str:
    """Return which share of the package the tests of the folders run, and of which parts they run least."""
    lines = {name: 100 * p["covered_lines"] / p["num_statements"] for name, p in record["parts"].items()}
    every = record["parts"]["all"]
    branches = 100 * every["covered_branches"] / every["num_branches"]
    folders = ", ".join(f"`{folder}`" for folder in record["folders"])
    shares = f"{lines.pop('all'):.0f} % of {every['num_statements']:,} lines and {branches:.0f} % of all branches"
    parts = ", ".join(f"{name} {share:.0f} %" for name, share in lines.items())
    return f"{shares} are run by the tests in {folders} alone ({record['run']['date']}). Lines by part: {parts}"


BLOCKS: dict[str, Callable[[Record], str | list[str]]] = {
    "accuracy": tabulate_accuracy,
    "accuracy.card": describe_accuracy_in_card,
    "accuracy.mass": describe_mass,
    "slices": tabulate_slices,
    "slices.card": describe_slices_in_card,
    "slices.flag": describe_check_slice,
    "first_table": tabulate_first_table,
    "first_table.few": tabulate_few_mice,
    "arrays": tabulate_arrays,
    "arrays.conversion": describe_conversion,
    "arrays.opening": describe_opening,
    "checksums": tabulate_checksums,
    "dicom": tabulate_dicom,
    "cluster": tabulate_cluster,
    "job": tabulate_job,
    "scale": tabulate_scale,
    "download": tabulate_download,
    "evaluation": tabulate_evaluation,
    "huggingface": tabulate_huggingface,
    "huggingface.samples": describe_huggingface,
    "huggingface.streaming": describe_streaming,
    "inference": tabulate_engines,
    "inference.arithmetic": describe_arithmetic,
    "inference_small": tabulate_gate,
    "line_coverage": describe_coverage,
    "loaders": tabulate_loaders,
    "phantom": tabulate_volumes,
    "phantom.counts": describe_counts,
    "phantom.images": tabulate_images,
    "reading": tabulate_reading,
    "region": tabulate_region,
    "region.speed": describe_speed,
    "region_agreement": tabulate_agreement_of_region,
    "review": tabulate_review,
    "review_screen": tabulate_screen,
    "segment": tabulate_segment,
    "segment.page": describe_page,
    "training_input": tabulate_training_input,
    "training_input.rate": describe_training_input,
    "tuning": tabulate_tuning,
    "tuning.gain": describe_tuning,
    "verdict": describe_command,
    "verdict.compare": tabulate_comparisons,
    "verdict.figure": tabulate_outcomes("verdict_of_the_figure"),
    "verdict.intervals": tabulate_intervals,
    "verdict.table": tabulate_outcomes("verdict"),
}


if __name__ == "__main__":
    main()
