"""``mousecmr cite``: how to cite the article, the data and this software."""

from __future__ import annotations

import click

from mousecmr_data.cli import options, output

_ENTRIES = ("paper", "data", "software")


@click.command()
@click.argument("what", nargs=-1, type=click.Choice(_ENTRIES))
@options.source
@click.option("--cff", is_flag=True, help="CITATION.cff instead of BibTeX.")
@options.as_json
def command(what: tuple[str, ...], source: str, cff: bool, as_json: bool) -> None:
    """BibTeX of the paper, the data and the software: WHAT, or all three."""
    from mousecmr_data import api
    from mousecmr_data.export.citation import make_bibtex, make_cff

    manifest = api.resolve_manifest(source)
    entries = {k: v for k, v in make_bibtex(manifest).items() if not what or k in what}
    if cff:
        entries = {"cff": make_cff(manifest)}
    if as_json:
        output.print_json(entries)
        return
    output.warn_synthetic(manifest.synthetic)
    missing = [w for w in what if w not in entries and not cff]
    for name in missing:
        click.echo(f"{manifest.name} has no {name} to cite.", err=True)
    click.echo("\n".join(entries.values()), nl=False)
