"""``mousecmr benchmark``: protocols, runs of networks, entries of the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data.cli import options, output
from mousecmr_data.cli.predict import open_client
from mousecmr_data.schema import PHANTOM, SMALL_PHANTOM


@click.group()
def command() -> None:
    """Compare networks by fixed protocols, and keep the results in a leaderboard of files."""


source = click.option(
    "--source", default=PHANTOM, help=f"Where mice come from: mousecmr-130, {PHANTOM}, or {SMALL_PHANTOM} for a trial."
)
leaderboard = click.option(
    "--leaderboard", type=options.FOLDER, default=Path("leaderboard"), help="Folder of the leaderboard."
)


@command.command("list")
@options.as_json
def list_command(as_json: bool) -> None:
    """List the protocols: who trains, who tests, and their checksums."""
    from mousecmr_data.evaluation.protocols import list_protocols, read_protocol

    protocols = [read_protocol(name) for name in list_protocols()]
    rows: list[dict[str, Any]] = [
        {
            **p.reference,
            "title": p.title,
            "sources": p.sources,
            "parts": len(p.parts),
            "conditions": len(p.parts[0].conditions),
            "test_mice": len({(c.source, m) for part in p.parts for c in part.conditions for m in c.mice}),
        }
        for p in protocols
    ]
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        ["protocol", "version", "checksum", "what", "trainings", "conditions", "test mice"],
        [
            [r["name"], r["version"], r["sha256"][:12], r["title"], r["parts"], r["conditions"], r["test_mice"]]
            for r in rows
        ],
    )


@command.command("run")
@click.argument("protocol")
@click.option(
    "--network",
    "networks",
    multiple=True,
    required=True,
    metavar="NETWORK",
    help="A recipe (phantom-small), a class (monai.networks.nets:UNet), or the config.json of a run with any settings; "
    "repeat it for each network.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, help="Number of seeds: each network is trained so often.")
@options.settings
@options.output_folder("Folder of the benchmark. A run that was stopped there is continued.", required=True)
@source
@options.cache
@options.processes(1)
@options.scheduler
@options.overwrite_edited
@options.as_json
def run_command(
    protocol: str,
    networks: tuple[str, ...],
    seeds: int,
    settings: dict[str, Any],
    folder: Path,
    source: str,
    cache: Path | None,
    workers: int,
    scheduler: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train, test and rank networks by PROTOCOL, and write one page.

    Each network is trained with each seed on each part of the protocol. To continue a run that was killed, give the
    same command again.
    """
    require_extra("training", "torch", "safetensors", "monai", "pingouin", "matplotlib", "jinja2")
    from mousecmr_data._utils.tables import read_table
    from mousecmr_data.evaluation.benchmark import find_config, run_benchmark
    from mousecmr_data.evaluation.protocols import read_protocol

    chosen = read_protocol(protocol)
    methods = dict(find_config(network, settings) for network in networks)
    if len(methods) < len(networks):
        raise click.UsageError("Two networks have the same name: give them as files of different names.")
    steps = len(methods) * seeds * len(chosen.parts)
    with open_client(scheduler) as client, output.progress("training and testing", steps) as advance:
        page = run_benchmark(
            chosen, methods, folder, source=source, seeds=range(seeds), cache=cache, workers=workers, client=client,
            overwrite=overwrite, progress=advance,
        )  # fmt: skip
    if as_json:
        output.print_json({"page": page, "protocol": chosen.reference, "networks": list(methods)})
        return
    output.warn_synthetic(source.startswith(PHANTOM))
    ranks = read_table(folder / "tables" / "ranking.csv", ("rank", "method", "mean", "ci_low", "ci_high"))
    numbers = ("mean", "ci_low", "ci_high")
    rows = [[r["rank"], r["method"], *(f"{float(r[k] or 'nan'):.3f}" for k in numbers)] for r in ranks]
    output.print_table(["rank", "network", "Dice", "95 % CI from", "to"], rows)
    click.echo(f"written: {page}")
    click.echo(
        f"next: mousecmr benchmark submit {folder / next(iter(methods))} --protocol {protocol} --source {source}"
    )


@command.command("submit")
@click.argument("masks", type=options.FOLDER)
@click.option("--protocol", required=True, help="Which protocol was followed; `mousecmr benchmark list` lists them.")
@source
@click.option("--name", help="Name of the entry. Default: that of the folder MASKS.")
@click.option("--method", required=True, help="What the network is, in one line.")
@click.option("--authors", default="", show_default=False, help="Whose it is.")
@click.option("--url", default="", show_default=False, help="Where it is described.")
@click.option("--licence", default="CC-BY-4.0", help="Licence of the entry and its masks, by its SPDX name.")
@click.option("--data", "data_used", multiple=True, help="Data or weights besides the protocol's mice; repeat it.")
@click.option("--hardware", default="", show_default=False, help="Where it was trained. Default: this machine.")
@leaderboard
@options.overwrite_file
@options.cache
@options.processes(1)
@options.as_json
def submit_command(
    masks: Path,
    protocol: str,
    source: str,
    name: str | None,
    data_used: tuple[str, ...],
    leaderboard: Path,
    overwrite: bool,
    cache: Path | None,
    workers: int,
    as_json: bool,
    **card: str,
) -> None:
    """Score MASKS and write them as an entry of the leaderboard: card.json and results.json.

    MASKS is the folder of a network in the results of `mousecmr benchmark run`, or seed-0/PART/CONDITION/MOUSE.nii.gz
    (or HDF5, or any format of `mousecmr evaluate`); a level with one folder can be left out.
    """
    from mousecmr_data.evaluation.leaderboard import find_masks, read_step_facts, submit
    from mousecmr_data.evaluation.protocols import read_protocol

    chosen = read_protocol(protocol)
    runs = find_masks(masks, chosen)
    with output.progress("scoring", len(runs)) as advance:
        entry = submit(
            masks, name or masks.resolve().name, chosen, source, leaderboard, **card, data_used=data_used,
            about=read_step_facts(masks), cache=cache, workers=workers, overwrite=overwrite, progress=advance,
        )  # fmt: skip
    if as_json:
        output.print_json({"entry": entry})
        return
    output.warn_synthetic(source.startswith(PHANTOM))
    click.echo(f"written: {entry}")


@command.command("check")
@leaderboard
@click.option("--masks", type=options.FOLDER, help="Folder with the masks of entries, each in a folder of its name.")
@click.option("--page", type=options.FILE, help="Write the table of all entries to this HTML file.")
@options.overwrite_file
@options.cache
@options.processes(1)
@options.as_json
def check_command(
    leaderboard: Path,
    masks: Path | None,
    page: Path | None,
    overwrite: bool,
    cache: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Check every entry, and score its masks again where they are at hand. Exit status 1 if one has a problem."""
    from mousecmr_data._utils.outputs import check_file, write_file
    from mousecmr_data.evaluation.leaderboard import check_leaderboard, rank_entries, write_leaderboard

    if page:
        require_extra("evaluation", "jinja2")
        check_file(page, overwrite=overwrite)
    checks = check_leaderboard(leaderboard, masks=masks, cache=cache, workers=workers)
    rows = rank_entries(c.entry for c in checks if c.entry and not c.problems)
    if page:
        with write_file(page, overwrite=overwrite) as partial:
            write_leaderboard(checks, partial)
    rescored = {c.name for c in checks if c.rescored}
    if as_json:
        table = [{"name": c.name, "problems": c.problems, "rescored": c.rescored} for c in checks]
        ranks = [{k: row[k] for k in ("group", "rank", "name", "synthetic", "means", "withdrawn")} for row in rows]
        output.print_json({"checks": table, "ranks": ranks})
    else:
        output.warn_synthetic(any(row["synthetic"] for row in rows))
        output.print_table(
            ["protocol and source", "rank", "entry", "Dice", "HD95 (mm)", "|error of EF| (%)", "masks"],
            [
                [
                    *(row["group"], row["rank"], row["name"]),
                    *(f"{row['means'][k]:.3f}" for k in ("dice", "hd95_mm")),
                    f"{row['means']['ef_percent']:.1f}",
                    "scored again" if row["name"] in rescored else "not at hand",
                ]
                for row in rows
            ],
        )
        for check in checks:
            for problem in check.problems:
                click.secho(f"{check.name}: {problem}", fg="red", err=True)
        if page:
            click.echo(f"written: {page}")
    if any(c.problems for c in checks):
        raise click.exceptions.Exit(1)
