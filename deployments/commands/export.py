"""`everfit export`: a registered model as a folder that answers without everfit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployments.commands.base import Command, config_argument, load_config, runs_option

if TYPE_CHECKING:
    from models.edge.export import Exported


@click.command(cls=Command, short_help="Write a model for machines without everfit.")
@config_argument
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--version", metavar="N", help="Not the champion but this version.")
@click.option(
    "--to",
    type=click.Choice(["onnx", "int8", "litert"]),
    default="onnx",
    help="ONNX; ONNX with weights of a byte, a quarter of the size; LiteRT, of networks.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    help="How far a probability may be from the model's. "
    "[default: 5e-06, for int8 0.02, for litert 1e-05]",
    show_default=False,
)
@click.option(
    "--converter",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="An environment with litert-torch, for litert; where none is, one is made, of 2 GB.",
)
@runs_option
def command(
    config: Path,
    folder: Path,
    version: str | None,
    to: str,
    tolerance: float | None,
    converter: Path | None,
    runs: Path | None,
) -> None:
    """Write the champion of CONFIG into DIR: the model, what prepares its rows, and a script of 30
    lines that answers by them.

    Before DIR is there, its script has answered recorded rows as the model does.
    """
    from tasks import exporting

    loaded = load_config(config, runs)
    made = exporting.export(
        loaded,
        folder,
        to,  # type: ignore[arg-type] - one of the choices
        version=version,
        tolerance=tolerance,
        converter=_python(to, converter),
    )
    click.echo("\n".join(told(made, folder)))


def _python(to: str, converter: Path | None) -> Path | None:
    """The Python that converts; the environment is made if there is none yet."""
    if converter is None or to != "litert":
        return None
    from deployments.edge.converter import environment
    from models.edge.litert import python_of

    if not python_of(converter).exists():
        click.echo(f"making LiteRT's environment in {converter}, once ...", err=True)
    return environment(converter)


def told(made: Exported, folder: Path) -> list[str]:
    """What was written and how it answers, as a person reads it."""
    proof = made.proof
    lines = [
        f"version {made.version} of {made.name} ({made.family}) as {made.to} in {folder}: "
        f"{made.model} of {made.size / 1e3:,.1f} kB, one row in {proof.one_us:.0f} us",
        f"its script was asked for {proof.recorded:,} recorded rows and {proof.beside:,} beside "
        f"them, in batches of {', '.join(map(str, proof.batches))} and at once: a probability "
        f"differs by {proof.difference:.1e} at most ({proof.tolerance:g} is allowed), "
        f"{proof.mean:.1e} on average; {proof.changed:.2%} of the rows get another class",
        f"python {folder / 'predict.py'} answers the example; copy the whole folder",
    ]
    if (figures := made.notes.get("int8")) is not None:
        was, now = figures["float_bytes"] / 1e3, figures["bytes"] / 1e3
        lines.insert(1, f"int8 by {figures['how']}: {now:,.1f} kB, in floats {was:,.1f}")
    return lines
