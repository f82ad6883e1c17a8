"""What all commands share: one clear message for a fault, common options, the config."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deployments import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.config import Config

T = TypeVar("T")

config_argument = click.argument("config", metavar="CONFIG", type=click.Path(path_type=Path))
runs_option = click.option(
    "--runs",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for everything that is written, instead of the config's.",
)
port_option = click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the model server, not the config's."
)
why_option = click.option("--why", metavar="TEXT", help="The reason that is recorded.")


class Command(click.Command):
    """A command that ends a fault with one message and exit code 1; --debug shows the traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, help="Show the traceback of a fault.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug")
        environment.prepare()
        log_to_stderr(debug)
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, KeyboardInterrupt):
            raise
        except BrokenPipeError:  # the reader, for instance `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(1) from None
        except Exception as fault:
            if debug:
                raise
            raise click.ClickException(explain(fault)) from None


def log_to_stderr(debug: bool) -> None:
    """Warnings of the libraries; with `debug` also what Prefect and everybody else has to say.

    Without it Prefect is silent here: its page keeps its log, and a flow's fault is told once.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    if not debug:
        handler.setLevel(logging.WARNING)
        handler.addFilter(lambda record: not record.name.startswith("prefect"))
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[handler])


def explain(fault: Exception) -> str:
    """What a person needs to know of a fault.

    >>> explain(FileNotFoundError(2, "No such file or directory", "flights.csv"))
    'flights.csv: No such file or directory'
    >>> explain(ZeroDivisionError("division by zero"))
    'unexpected ZeroDivisionError: division by zero (run again with --debug to see where)'
    """
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.filename}: {fault.strerror}" if fault.filename else fault.strerror
    if _ours(fault):
        return str(fault)
    text = ": ".join(part for part in (type(fault).__name__, str(fault).strip()) if part)
    return f"unexpected {text} (run again with --debug to see where)"


def _ours(fault: Exception) -> bool:
    """Whether one of the project's own packages raised it, so that its message has the remedy."""
    from deployments.processes import StackFault

    own = ("models", "monitoring", "tasks", "flows", "deployments")
    return isinstance(fault, StackFault) or any(
        kind.__module__.partition(".")[0] in own for kind in type(fault).__mro__
    )


def load_config(path: Path, runs: Path | None = None, **overrides: Any) -> Config:
    """The config with the flags on top; relative `runs` are the caller's, not the file's."""
    from tasks.config import load

    return load(path, runs=str(runs.resolve()) if runs else None, **overrides)


@contextmanager
def prefect(config: Config, port: int | None = None) -> Iterator[None]:
    """A Prefect server under the config's runs folder; import flows inside the block."""
    from deployments.stack import prefect_server

    click.echo("starting Prefect's server ...", err=True)
    with prefect_server(environment.prefect_home(config.folder), port):
        yield


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an asynchronous flow to its end."""
    return asyncio.run(work())


def moment(text: str | None, option: str = "--now") -> Any:
    """An option's time in UTC; one without a zone is UTC."""
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"a time is ISO 8601, got {text!r}: write it as 2013-02-01T06:00:00Z",
            param_hint=option,
        ) from None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
