"""`everfit down`: stop what `everfit up` runs."""

from __future__ import annotations

from pathlib import Path

import click

from deployments.commands.base import Command, load_config


@click.command(cls=Command, short_help="Stop what `everfit up` runs.")
@click.argument("configs", metavar="[CONFIG...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Where several run: stop all of them.")
@click.option("--force", is_flag=True, help="At once, in no order: what was not stored is lost.")
@click.option("--wait", default=120, type=click.IntRange(1, 3600), help="Seconds for the end.")
def command(configs: tuple[Path, ...], everything: bool, force: bool, wait: int) -> None:
    """Stop the `everfit up` that runs CONFIG's model, or the one that runs; from any terminal.

    It is stopped in order, as by Ctrl-C: first what starts work, last what answers callers.
    """
    from deployments.up import place, stopping

    if configs:
        found = {}
        for path in configs:
            config = load_config(path)
            running = place.running_place(config)
            if running is None:
                raise click.ClickException(f"`everfit up` does not run {config.name}")
            found[running.folder] = running
        places = list(found.values())
    else:
        places = place.running_places()
        if not places:
            raise click.ClickException("no `everfit up` of yours runs")
        if len(places) > 1 and not everything:
            where = "".join(f"\n  {stopping.about(p)}" for p in places)
            raise click.ClickException(f"several run, name one by its CONFIG or take --all:{where}")
    for running in places:
        click.echo(f"stopping {stopping.about(running)} ...", err=True)
        seconds = stopping.stop(running, wait, force=force)
        click.echo(f"stopped after {seconds:.1f} s")
