"""`everfit whatif`: the recorded checks under other rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deployments.commands.base import Command, config_argument, load_config, runs_option


@click.command(cls=Command, short_help="Replay the recorded checks under other rules.")
@config_argument
@click.option(
    "--rules",
    "rules",
    metavar="YAML",
    type=click.Path(path_type=Path),
    help="A config with a `policy` section, or just its keys; what it does not name stays as in "
    "CONFIG. Without it, CONFIG's rules under the other rule set.",
)
@click.option("--no-loss", is_flag=True, help="Leave out the loss, which reads the rows.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@runs_option
def command(
    config: Path, rules: Path | None, no_loss: bool, as_json: bool, runs: Path | None
) -> None:
    """Say what other rules would have done with the checks that are recorded. Changes nothing."""
    import json
    from dataclasses import replace

    from monitoring.rules import RULE_SETS
    from tasks.config import load_rules
    from tasks.whatif import compare

    loaded = load_config(config, runs)
    if rules is None:
        mine = loaded.policy.rule_set
        other = replace(loaded.policy, rule_set=next(n for n in RULE_SETS if n != mine))
    else:
        other = load_rules(rules, loaded.policy)
    found = compare(loaded, other, loss=not no_loss)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))


def lines(found: dict[str, Any]) -> list[str]:
    """Both columns as a person reads them, and what is assumed."""
    was, would = found["recorded"], found["other"]
    text = [
        f"{found['name']}: {was['checks']:,} checks, {found['from'][:10]} to {found['to'][:10]}",
        "",
        _row("", "recorded", "other"),
        _row("retrains", was["retrains"], would["retrains"]),
    ]
    for rule in dict.fromkeys((*was["retrains_by_rule"], *would["retrains_by_rule"])):
        sides = (side["retrains_by_rule"].get(rule, 0) for side in (was, would))
        text.append(_row(f"  for {rule}", *sides))
    for key, name in (
        ("refused", "  refused by the gate"),
        ("retunes", "retunes for latency"),
        ("rollbacks", "roll-backs"),
        ("alerts", "alerts to a person"),
        ("drift_alarms", "windows in which drift counts"),
        ("watched", "watched"),
    ):
        text.append(_row(name, was[key], would[key]))
    for rule in dict.fromkeys((*was["held_back"], *would["held_back"])):
        sides = (side["held_back"].get(rule, 0) for side in (was, would))
        text.append(_row(f"held back: {rule}", *sides))
    text += [
        _row("healthy", was["healthy"], would["healthy"]),
        _row("too little data", was["too_little_data"], would["too_little_data"]),
        *_loss(found.get("loss")),
        "",
        "rules that differ" if found["rules"] else "the rules do not differ",
    ]
    text += [
        f"  {name}: {sides['recorded']} -> {sides['other']}"
        for name, sides in found["rules"].items()
    ]
    text += [
        "",
        f"replaying the config's own rules gives the recorded action in "
        f"{found['own_rules_agree']:,} of {was['checks']:,} checks",
        "assumed: " + found["assumed"][0],
        *(f"         {sentence}" for sentence in found["assumed"][1:]),
    ]
    return text


def _row(name: str, was: object, would: object) -> str:
    return f"  {name:<34}{was!s:>10}{would!s:>10}".rstrip()


def _loss(loss: dict[str, Any] | None) -> list[str]:
    if loss is None:
        return []
    if not loss["rows"]:
        return [f"  log loss: {loss['reason']}"]
    return [
        _row("log loss", f"{loss['recorded']:.4f}", f"{loss['other']:.4f}"),
        f"    {loss['difference']:+.4f} ({loss['low']:+.4f} to {loss['high']:+.4f}, "
        f"{loss['interval']}) on {loss['rows']:,} labelled rows, "
        f"{loss['answered_by_another_version']:,} of them answered by another version",
    ]
