"""The command ``mousecmr``: finds its verbs in the files beside this one."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

import click

from mousecmr_data._version import __version__
from mousecmr_data.errors import MouseCMRError

_NOT_VERBS = {"main", "options", "output"}


class Verbs(click.Group):
    """A group whose commands are the modules of this package, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        folder = str(Path(__file__).parent)
        return sorted({m.name for m in pkgutil.iter_modules([folder])} - _NOT_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"mousecmr_data.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 (a mistake of ours, not of the user)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MouseCMRError as e:
            raise click.ClickException(str(e)) from e
        except OSError as e:
            raise click.ClickException(f"{e.strerror or e}: {e.filename}" if e.filename else str(e)) from e


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, package_name="mousecmr-data", prog_name="mousecmr")
def main() -> None:
    """Mouse cardiac MRI: get, trust, load and measure the first open dataset.

    Start with `mousecmr info`. For research, not for clinical use.
    """


if __name__ == "__main__":
    main()
