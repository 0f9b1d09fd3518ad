"""``mousecmr cite``: how to cite the article, the data and this software."""

from __future__ import annotations

import click

from mousecmr_data.cli import options, output


@click.command()
@click.argument("what", nargs=-1, type=click.Choice(("paper", "data", "software")))
@options.source
@click.option("--cff", is_flag=True, help="Print CITATION.cff instead of BibTeX.")
@options.as_json
def command(what: tuple[str, ...], source: str, cff: bool, as_json: bool) -> None:
    """Print BibTeX of the paper, the data and the software, or of one of them."""
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
    for name in () if cff else what:
        if name not in entries:
            click.echo(f"{manifest.name} has no {name} to cite.", err=True)
    click.echo("\n".join(entries.values()), nl=False)
