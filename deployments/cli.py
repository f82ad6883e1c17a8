"""The command line: `everfit COMMAND`, also `python -m deployments COMMAND`.

The command modules import click alone; what a command needs is imported when it runs, so that
`everfit --help` answers at once.
"""

from __future__ import annotations

import difflib
import importlib

import click

# In the order of a model's life, which is the order of the help.
COMMANDS = (
    "demo",
    "init",
    "check",
    "up",
    "down",
    "train",
    "tune",
    "size",
    "transfer",
    "serve",
    "watch",
    "retrain",
    "rollout",
    "approve",
    "reject",
    "rollback",
    "reconcile",
    "status",
    "report",
    "explain",
    "whatif",
    "export",
    "purge",
    "webhook",
    "deploy",
    "ui",
    "drill",
    "bench",
)


class Commands(click.Group):
    """Each command is the `command` of the module of its name under deployments/commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"deployments.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`everfit --help` lists them"
            ctx.fail(f"there is no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Start with `everfit demo`, or with your own data: `everfit init NAME --data FILE "
    "--target COL`.",
)
@click.version_option(package_name="everfit", prog_name="everfit")
def main() -> None:
    """Keep production models fit: watch, decide, tune, prove, register, roll out, roll back."""
