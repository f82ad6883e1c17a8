"""What a search leaves for the next one, and how the next one reads it in a changed space.

The memory holds the best configurations (tried first next time), the policy as it stood (the next
one starts there, widened), and the trials with their rank rewards, which mean the same in every
retrain. It is bounded: older evidence counts less with each retrain and then goes.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import SpaceFault
from models.parameters import Categorical, Float, Int, Parameter, same
from models.records import Params, Scalar, Trial
from models.search.base import Key, key
from models.search.policy_net import WIDE, Layout, Policy
from models.search.reward import losses_of, ranked
from models.space import Space

INCUMBENTS = 4  # tried first: a short search must have trials left for what is new
EVIDENCE = 200
OF_ONE = 48  # of one search: its best and, evenly, of the rest
FADE = 0.8  # weight of one retrain's evidence in the next, and so on
_WIDER = 2.0  # sigma of a remembered number is multiplied by this
_FLATTER = 0.5  # remembered choice probabilities are mixed half with uniform

Branch = tuple[tuple[str, str], ...]


@dataclass
class Recall:
    """The memory as a space of today reads it.

    known: configurations to try first, best first; policy: where the units start; unit (n, d),
    active (n, d), reward (n,), loss (n,), age (n,), weight (n,): evidence of the earlier
    `searches`. Rewards are ranks within their search; losses (NaN: failed) are as they were, and
    age 0 is the latest search. advised: configurations that people hold good, tried beside them.
    past: the function that was fitted to them, once it is needed.
    """

    known: tuple[dict[str, Scalar], ...]
    policy: Policy
    unit: NDArray[np.float64]
    active: NDArray[np.bool_]
    reward: NDArray[np.float64]
    loss: NDArray[np.float64]
    age: NDArray[np.int64]
    weight: NDArray[np.float64]
    searches: int
    advised: tuple[dict[str, Scalar], ...] = ()
    past: Any = None

    def advice(self, space: Space, taken: Container[Key]) -> list[dict[str, Scalar]]:
        """What is advised and not `taken`, that of the best known's branch first."""
        left = [params for params in self.advised if key(params) not in taken]
        home = _branch(space, self.known[0]) if self.known else ()
        return sorted(left, key=lambda params: _branch(space, params) != home)

    def untried_branches(self, space: Space, trials: Sequence[Trial]) -> list[dict[str, Scalar]]:
        """The best known of each branch of a conditional space that has no trial yet."""
        tried = {_branch(space, trial.params) for trial in trials}
        found: dict[Branch, dict[str, Scalar]] = {}
        for params in self.known:
            found.setdefault(_branch(space, params), params)
        return [params for branch, params in found.items() if branch not in tried]


def remember(
    space: Space,
    trials: Sequence[Trial],
    policy: Policy,
    before: Mapping[str, Any] | None,
    ended: Params | None = None,
) -> dict[str, Any]:
    """The memory after a search: JSON-ready, at most `INCUMBENTS` and `EVIDENCE` entries.

    ended: the configuration that the search ended with; None: that of the best trial.
    """
    losses = losses_of(trials)
    rewards = ranked(losses)
    rows: list[dict[str, Any]] = [
        {
            "params": dict(trial.params),
            "reward": round(float(r), 6),
            "loss": None if math.isnan(loss) else float(loss),
            "age": 0,
        }
        for trial, r, loss in zip(trials, rewards, losses, strict=True)
    ]
    complete = [row for row, failed in zip(rows, np.isnan(losses), strict=True) if not failed]
    top = sorted(complete, key=lambda row: -row["reward"])
    if ended is not None:
        top.sort(key=lambda row: key(row["params"]) != key(ended))
    older = [{**row, "age": row["age"] + 1} for row in (before or {}).get("incumbents", ())]
    # What it ended with, then the best known of every other branch, so that a family that lost for
    # a while is asked again each time; then earlier champions and the latest runners-up.
    heads = _heads(space, [*top, *older])
    incumbents = _distinct([*heads, *older[:2], *top[1:3], *older[2:]])[:INCUMBENTS]
    faded = [{**row, "age": row["age"] + 1} for row in (before or {}).get("evidence", ())]
    evidence = [*_thinned(sorted(rows, key=lambda row: -row["reward"])), *faded][:EVIDENCE]
    return {
        "space": space.to_json(),
        "incumbents": incumbents,
        "evidence": evidence,
        "policy": _policy_to_json(space, policy),
        "searches": int((before or {}).get("searches", 0)) + bool(trials),
    }


def recall(memory: Mapping[str, Any], layout: Layout) -> Recall:
    """Read a memory in today's space: parameters may have come, gone, or changed their range.

    A value outside today's range goes to its nearest end; a parameter that is new gets the middle
    of its range, or 'none' where that can be chosen; a configuration whose choice is gone is left
    out. Raises SpaceFault when the memory is not of the form that `remember` writes.
    """
    try:
        old = Space.from_json(memory["space"])
        policy = _policy_from_json(memory["policy"], old, layout)
        rows = [(r, repaired(r["params"], layout.space)) for r in memory["evidence"]]
        incumbents = [repaired(r["params"], layout.space) for r in memory["incumbents"]]
        advised = [repaired(params, layout.space) for params in memory.get("advised", ())]
        kept = [
            (params, float(r["reward"]), _loss(r.get("loss")), int(r["age"]))
            for r, params in rows
            if params
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise SpaceFault(
            "a memory holds space, incumbents, evidence and policy as the controller wrote them; "
            f"got something else ({type(fault).__name__}: {fault}): start cold"
        ) from None
    space = layout.space
    d = len(space)
    names = [p.name for p in space.parameters]
    return Recall(
        known=tuple(_distinct_params([p for p in incumbents if p])),
        policy=policy,
        unit=np.array([space.encode(p) for p, *_ in kept]).reshape(-1, d),
        active=np.array([[n in p for n in names] for p, *_ in kept], dtype=bool).reshape(-1, d),
        reward=np.array([r for _, r, _, _ in kept], dtype=np.float64),
        loss=np.array([loss for _, _, loss, _ in kept], dtype=np.float64),
        age=np.array([age for *_, age in kept], dtype=np.int64),
        weight=np.array([FADE ** (age + 1) for *_, age in kept], dtype=np.float64),
        searches=int(memory.get("searches", 0)),
        advised=tuple(p for p in advised if p),
    )


def _loss(value: Any) -> float:
    return math.nan if value is None else float(value)


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `OF_ONE` of a search's rows, best first: the better half of them, then evenly."""
    half = OF_ONE // 2
    if len(rows) <= OF_ONE:
        return rows
    rest = np.linspace(half, len(rows) - 1, OF_ONE - half).round().astype(int)
    return [*rows[:half], *(rows[i] for i in rest)]


def repaired(params: Params, space: Space) -> dict[str, Scalar] | None:
    """`params` made valid in `space`, or None when one of its choices is gone."""
    out: dict[str, Scalar] = {}
    for parameter in space.parameters:
        if not space.is_active(parameter, out):
            continue
        if parameter.name in params:
            value = parameter.repaired(params[parameter.name])
            if value is None:
                return None
            out[parameter.name] = value
        else:
            out[parameter.name] = _unnamed(parameter)
    return out if space.allows(out) else space.decode(space.encode(out))


def _unnamed(parameter: Parameter) -> Scalar:
    """What a configuration had of a parameter that it does not name, since it came later: none,
    where that can be chosen, else it is taken to be in the middle."""
    if isinstance(parameter, Categorical) and "none" in parameter.choices:
        return "none"
    return parameter.from_unit(0.5)


def _heads(space: Space, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row of each branch."""
    heads: dict[Branch, dict[str, Any]] = {}
    for row in rows:
        heads.setdefault(_branch(space, row["params"]), row)
    return list(heads.values())


def _branch(space: Space, params: Params) -> Branch:
    """The choices of the parameters that others hang on."""
    parents = {p.when[0] for p in space.parameters if p.when is not None}
    return tuple(sorted((name, str(params.get(name))) for name in parents))


def _distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[Any, dict[str, Any]] = {}
    for row in rows:
        seen.setdefault(key(row["params"]), row)
    return list(seen.values())


def _distinct_params(rows: list[dict[str, Scalar]]) -> list[dict[str, Scalar]]:
    return list({key(row): row for row in reversed(rows)}.values())[::-1]


def _policy_to_json(space: Space, policy: Policy) -> dict[str, Any]:
    out: dict[str, Any] = {}
    layout = policy.layout
    for i, j in enumerate(layout.numbers):
        out[space.parameters[j].name] = {
            "mean": round(float(policy.mean[i]), 9),
            "sigma": round(float(policy.log_sigma[i].exp()), 9),
        }
    probabilities = policy.log_probabilities().exp()
    for i, j in enumerate(layout.choices):
        row = probabilities[i, : layout.counts[i]].tolist()
        out[space.parameters[j].name] = {"probabilities": [round(p, 9) for p in row]}
    return out


def _policy_from_json(rows: Mapping[str, Any], old: Space, layout: Layout) -> Policy:
    policy = Policy.uniform(layout)
    for i, j in enumerate(layout.numbers):
        now = layout.space.parameters[j]
        if now.name not in rows or now.name not in old or "mean" not in rows[now.name]:
            continue
        moved = _moved(rows[now.name], old[now.name], now)
        if moved is not None:
            policy.mean[i] = moved[0]
            policy.log_sigma[i] = math.log(min(max(moved[1], float(layout.floor[i])), WIDE))
    for i, j in enumerate(layout.choices):
        now = layout.space.parameters[j]
        was = old[now.name] if now.name in old else None  # noqa: SIM401 - a Space has no get
        if not isinstance(was, Categorical) or not isinstance(now, Categorical):
            continue
        past = rows[now.name]["probabilities"]
        n = len(now.choices)
        p = np.full(n, 1.0 / n)  # a new choice is as likely as any
        for k, choice in enumerate(now.choices):
            p[k] = next(
                (q for c, q in zip(was.choices, past, strict=True) if same(c, choice)), p[k]
            )
        p = (1 - _FLATTER) * p / p.sum() + _FLATTER / n
        policy.logits[i, :n] = torch.from_numpy(np.log(p))
    return policy


def _moved(unit: Mapping[str, float], old: Parameter, new: Parameter) -> tuple[float, float] | None:
    """(mean, sigma) of a number's unit in the new range, widened; None when it can't be read."""
    if isinstance(old, Categorical):
        return None
    value = new.repaired(old.from_unit(float(unit["mean"])))
    if value is None:
        return None
    mean, scale = new.to_unit(value), 1.0
    if old == new:
        mean = float(unit["mean"])
    elif isinstance(old, Float | Int) and isinstance(new, Float | Int):
        scale = old.span / new.span if old.log is new.log and new.span else 1.0
    return mean, float(unit["sigma"]) * scale * _WIDER
