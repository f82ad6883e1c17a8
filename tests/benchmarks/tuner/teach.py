"""How the weights of `models.search.judge` were found: policy gradient on whole searches.

    python -m tests.benchmarks.tuner.teach --searches 400

Searches of random problems (`synthetic`) and of surrogates that the suites hold and no list of
`problems` names. In each state the policy is a softmax over the promising points, and what every
one of them leads to after 1, 2, 4 and 8 trials is computed (`outcomes`): the gradient of the
expected gain is REINFORCE's with every action weighed, and no action need be sampled. Printed are
the weights by trials looked ahead, relative to those of the improvement: of some hundred searches
those of the distance are good to 0.2 one or two trials ahead, and to 0.5 at eight.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.records import Trial
from models.search.base import Key, generator, key
from models.search.judge import TOPS, features, judged
from models.search.policy_net import Layout, Policy
from models.search.predictor import Pool, Predictor
from tests.benchmarks.tuner.outcomes import AHEAD, outcomes
from tests.benchmarks.tuner.problems import LISTS, folder, problem
from tests.benchmarks.tuner.synthetic import Synthetic

Array = NDArray[np.float64]

_START = 8  # trials are drawn first
_MANY = 96  # points of a state that are weighed
_FLOOR = 0.03  # a gain counts relative to the regret and this
_PLAIN = np.array([0.5, 0.5, 0.0])  # the searches are those of plain log expected improvement
_PULL = 3e-4  # towards plain log expected improvement


class Surrogates:
    """A replayed surrogate, asked for many configurations at once."""

    def __init__(self, name: str) -> None:
        made = problem(name)
        self.name, self.space = name, made.space
        self.best, self.median, self._batch = made.best, made.median, made.source.batch

    def true_many(self, params: Sequence[Any]) -> Array:
        return np.asarray(self._batch(params))

    def noisy_many(self, params: Sequence[Any], _: np.random.Generator) -> Array:
        return self.true_many(params)


def unlisted(many: int, seed: int = 5) -> list[str]:
    """`many` surrogates of each suite that no list names."""
    listed = {name for names in LISTS.values() for name in names}
    out = []
    for suite, word in (("lcbench", "OpenML_task_id"), ("rbv2_xgboost", "task_id")):
        text = (folder() / "yahpo" / suite / "encoding.json").read_text(encoding="utf-8")
        names = [f"{suite}-{each}" for each in json.loads(text)[word] if each != "#na#"]
        left = [name for name in names if name not in listed]
        order = np.random.default_rng(seed).permutation(len(left))
        out += [left[i] for i in order[:many]]
    return out


def states(source: Any, seed: int, trials: int, hot: float) -> list[tuple[Array, Array]]:
    """Features (3, k) and relative gains (len(AHEAD), k) along one search.

    hot: of the noise (Gumbel) by which some searches leave plain improvement, for other states.
    """
    layout, rng = Layout(source.space), np.random.default_rng([11, seed])
    policy = Policy.uniform(layout)
    history: list[Trial] = []
    taken: set[Key] = set()
    low, regret, out = math.inf, 1.0, []
    for number in range(trials):
        params = source.space.sample(generator(seed, number))
        if number >= _START and math.isfinite(low):
            views = [Predictor(layout, history, values=v) for v in (False, True)]
            points, _ = judged(views, policy, Pool(), generator(seed, number, 1))
            points = np.vstack([points[: 2 * TOPS], points[rng.choice(len(points), 40)]])
            points = np.unique(points.round(9), axis=0)
            every = source.space.decode_many(points)
            there = np.array([key(each) in taken for each in every])
            true = (source.true_many(every) - source.best) / (source.median - source.best)
            noisy = source.noisy_many(every, rng)
            after = outcomes(views, points, true, noisy, low, regret, there)
            seen = features(views, points)
            left = rng.permutation(np.flatnonzero(~there))[:_MANY]
            gain = np.clip((regret - after[left].T) / (regret + _FLOOR), -1, 1)
            if len(left) == _MANY:
                out.append((seen[:, left], gain))
            merit = _PLAIN @ seen + hot * rng.gumbel(size=len(points)) - 1e9 * there
            params = every[int(np.argmax(merit))]
        loss = float(source.noisy_many([params], rng)[0])
        taken.add(key(params))
        if math.isfinite(loss) and loss < low:
            low = loss
            true_loss = float(source.true_many([params])[0])
            regret = (true_loss - source.best) / (source.median - source.best)
        status, told = ("complete", loss) if math.isfinite(loss) else ("failed", None)
        history.append(Trial(number, params, status, told, 0.0, seed))
    return out


def taught(found: Sequence[tuple[Array, Array]], ahead: int, steps: int = 200) -> Array:
    """Weights (3,) that climb the expected gain `ahead` trials later, over all states."""
    x = torch.from_numpy(np.stack([seen for seen, _ in found])).float()
    y = torch.from_numpy(np.stack([gain[AHEAD.index(ahead)] for _, gain in found])).float()
    y = y - y.mean(dim=1, keepdim=True)
    start = torch.tensor([0.7, 0.7, 0.0])
    weights = start.clone().requires_grad_()
    adam = torch.optim.Adam([weights], lr=0.05)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        chosen = torch.einsum("f,sfk->sk", weights, x).softmax(dim=1)
        loss = -(chosen * y).sum(dim=1).mean() + _PULL * ((weights - start) ** 2).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        slower.step()
    return weights.detach().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = unlisted(14)
    found: list[tuple[Array, Array]] = []
    for i in range(options.searches):
        rng = np.random.default_rng([9, options.seed, i])
        name = names[rng.integers(len(names))]
        source = Synthetic(int(rng.integers(2**31))) if rng.random() < 0.5 else Surrogates(name)
        hot, trials = float(rng.choice([0.0, 0.0, 0.3])), int(rng.choice([24, 36, 50]))
        found += states(source, options.seed * 100_003 + i, trials, hot)
    print(f"{len(found)} states of {options.searches} searches")  # noqa: T201
    for ahead in AHEAD:
        ranks, values, distance = taught(found, ahead)
        both = ranks + values
        print(  # noqa: T201
            f"{ahead} ahead: ranks {ranks / both:.2f} values {values / both:.2f} "
            f"distance {distance / both:.2f}"
        )


if __name__ == "__main__":
    main()
