"""The command ``mousecmr``. Each command is a file beside this one, imported when it is used."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from mousecmr_data._utils.network import disable_telemetry, enforce_offline
from mousecmr_data._version import __version__
from mousecmr_data.errors import MouseCMRError, find_similar

SECTIONS = {
    "Data": {
        "info": "Show what the dataset holds, and what is on this disk.",
        "fetch": "Download mice and verify every byte.",
        "verify": "Check files again: their bytes and their content.",
        "show": "Draw a mouse: montage with masks, and volume curve.",
        "measure": "Print EDV, ESV, SV, EF and mass of mice with masks.",
        "convert": "Write mice as a Zarr store, for nnU-Net, or as NIfTI.",
        "phantom": "Make synthetic mice.",
        "manifest": "Describe a folder of your own mice, to load it by name.",
        "lock": "List the verified files with their checksums.",
        "demo": "Try everything on synthetic mice, without a download.",
        "doctor": "Report versions, cache, engines, network, for a bug report.",
    },
    "Segment": {
        "segment": "Segment your own scans: masks, volumes, flags, pictures.",
        "serve": "Open a web page where you drop scans and get results.",
        "review": "Look at masks of segment and correct them, in the browser.",
        "predict": "Segment a cohort into HDF5 files of the dataset's layout.",
        "train": "Train a network.",
        "tune": "Tune a network on mice whose masks you reviewed.",
        "export": "Write a network to an ONNX file.",
    },
    "Evaluate": {
        "evaluate": "Score predicted masks against expert masks.",
        "compare": "Compare two results of evaluate, mouse by mouse.",
        "merge": "Join results of evaluate for different mice.",
        "reproduce": "Compare a network with the published table.",
        "benchmark": "Compare networks by fixed protocols; the leaderboard.",
    },
    "Share": {
        "publish": "Publish mice as a dataset on the Hugging Face hub.",
        "bundle": "Pack files for a machine without a network.",
        "cite": "Print BibTeX of the paper, the data and the software.",
    },
}
"""All commands, each with one line of help, in the order of ``mousecmr --help``."""


SIGINT_CODE, SIGTERM_CODE = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes, as of other programs."""
STOP_SECONDS = 1.3
"""Seconds after Ctrl-C in which a command may end in order."""
SERVERS = ("serve", "review")
"""Commands that take as long as they need to end: they finish requests, and write tables."""


@contextmanager
def _end_soon_after_ctrl_c(ctx: click.Context) -> Iterator[None]:
    """End the process :data:`STOP_SECONDS` after Ctrl-C, also where the main thread is in code, such as PyTorch's, that
    does not return in time. Files are written whole or not at all, and worker processes end with this one."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)

    def watch() -> None:
        while number := os.read(read, 1):
            if number[0] == signal.SIGINT and ctx.invoked_subcommand not in SERVERS:
                time.sleep(STOP_SECONDS)
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h")  # show the cursor, which progress bars hide
                os._exit(SIGINT_CODE)
        os.close(read)

    threading.Thread(target=watch, daemon=True).start()
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # the numbers of signals, as they arrive
    report = sys.unraisablehook

    def report_others(error: sys.UnraisableHookArgs) -> None:
        if not issubclass(error.exc_type, KeyboardInterrupt):  # Ctrl-C in code whose errors Python only prints
            report(error)

    sys.unraisablehook = report_others
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.set_wakeup_fd(before)
        os.close(write)


def _end_now() -> NoReturn:
    """End the process after Ctrl-C. Python's own way takes seconds where PyTorch was imported: it frees everything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(SIGINT_CODE)


class SectionedGroup(click.Group):
    """A group that lists its commands in sections."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; characters that the output's encoding lacks (cp1252, gbk) become question marks."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().main(*args, **kwargs)
        except SystemExit as e:
            if e.code == SIGINT_CODE and not args and not kwargs:  # the command is all that this process does
                _end_now()
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"mousecmr_data.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in (names := self.list_commands(ctx)):
            similar = find_similar(args[0], names)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {similar!r}?" if similar else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    def invoke(self, ctx: click.Context) -> object:
        in_main_thread = threading.current_thread() is threading.main_thread()
        # SIGTERM ends the process like Ctrl-C, so that temporary files are removed.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_CODE)) if in_main_thread else None
        try:
            with _end_soon_after_ctrl_c(ctx):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped. What was finished is kept.", err=True)
            raise SystemExit(SIGINT_CODE) from None
        except MouseCMRError as e:
            raise click.ClickException(str(e)) from e
        except OSError as e:
            if "No usable temporary directory" in str(e):
                raise click.ClickException(f"{e.strerror}\nNext: export TMPDIR=/path/to/a/writable/folder") from e
            raise click.ClickException(f"{e.strerror or e}: {e.filename}" if e.filename else str(e)) from e
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)


@click.command(
    cls=SectionedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(__version__, package_name="mousecmr-data", prog_name="mousecmr")
def main() -> None:
    """Mouse cardiac MRI: download, verify, load and measure the first open dataset; segment your own mice.

    Start with `mousecmr info`, or with `mousecmr demo`, which needs no download. `mousecmr COMMAND --help` explains a
    command. For research, not for clinical use.
    """
    disable_telemetry()
    enforce_offline()


if __name__ == "__main__":
    main()
