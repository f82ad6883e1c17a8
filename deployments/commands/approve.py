"""`everfit approve`: a person says yes to a challenger, and its roll-out goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from deployments.commands.base import Command, load_config, prefect, run, runs_option

if TYPE_CHECKING:
    from tasks.config import Config

model_argument = click.argument("model", metavar="CONFIG|NAME")
version_argument = click.argument("version", metavar="VERSION")
reason_option = click.option(
    "--why", metavar="TEXT", required=True, help="The reason; it is recorded with your name."
)


@click.command(cls=Command, short_help="Say yes to a challenger that waits for it.")
@model_argument
@version_argument
@reason_option
@click.option(
    "--force",
    is_flag=True,
    help="Also what its gate refused, or was rejected, rolled back or overtaken: recorded so.",
)
@runs_option
def command(model: str, version: str, why: str, force: bool, runs: Path | None) -> None:
    """Approve VERSION of a model whose config has `approval: required`.

    What was overtaken by another champion, or waited longer than `approval_within`, is not approved
    any more. The approval is of this version alone.
    """
    config = load_config(config_of(model), runs)
    answered(config, version, "approved", why, force=force)


def answered(
    config: Config,
    version: str,
    said: Literal["approved", "rejected"],
    why: str,
    *,
    force: bool = False,
) -> None:
    """Take the word, then the step that it allows; says what came of both."""
    with prefect(config):
        from flows.rollout import advance, answer
        from tasks.claims import here

        given = run(lambda: answer(config, version, said, here(), why, force=force))
        if given.state != said:
            raise click.ClickException(f"{given}: it does not serve; retrain anew")
        click.echo(str(given))
        step = run(lambda: advance(config)) if given.passed else None
    if step is not None:
        click.echo("\n".join([step.move.value, *(f"  {reason}" for reason in step.reasons)]))


def config_of(model: str) -> Path:
    """The config that `model` is the path of, or whose `name` it is, in the current folder."""
    path = Path(model).expanduser()
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return path
    for suffix in (".yaml", ".yml"):
        if (named := Path(f"{model}{suffix}")).is_file():
            return named
    found = [place for place in sorted(Path().glob("*.y*ml")) if _name(place) == model]
    if len(found) != 1:
        what = ", ".join(map(str, found)) or "none"
        raise click.BadParameter(
            f"a model is named by its config, or by a name that one config of this folder has, got "
            f"{model!r} and {what}: give the path of the config",
            param_hint="CONFIG|NAME",
        )
    return found[0]


def _name(path: Path) -> str | None:
    import yaml

    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return raw.get("name") if isinstance(raw, dict) else None
