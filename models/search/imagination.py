"""Imagination: the policy is taught inside the predictor, where a trial costs microseconds.

REINFORCE on points that the policy emits and the predictor judges, in the manner of Sutton's Dyna
(1991): the reward of an imagined trial is the rank of its log expected improvement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.search.policy_net import Evidence, Policy, one_thread, reinforce
from models.search.reward import ranked
from models.search.surrogate import Array


def imagined(
    policy: Policy,
    promise: Callable[[Array], Array],
    rounds: int,
    many: int,
    rng: np.random.Generator,
) -> Array:
    """Points (rounds * many, d) of the policy as it is taught; `policy` itself stays as it is."""
    space, d = policy.layout.space, len(policy.layout.space)
    points = []
    with one_thread():
        for _ in range(rounds):
            drawn, active = space.canonical_many(policy.emit_many(rng.random((many, d))))
            points.append(drawn)
            reward = np.repeat(ranked(-promise(drawn))[:, None], d, axis=1)
            evidence = Evidence(drawn, active, reward, np.ones(many))
            policy = reinforce(policy, evidence, steps=3, rate=0.5, beta=0.05)
    return np.vstack(points)
