"""What a configuration takes to train and to serve, foretold from all trials of all retrains."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import SpaceFault
from models.performance import Foretold, Performance, Seen
from models.performance.seen import SECONDS
from tasks import foretelling, lineage, places

if TYPE_CHECKING:
    from models.bundle import Predictor
    from models.records import Params, Release, Scalar
    from models.space import Space
    from tasks.config import Config

BUSY = 0.7  # share of a core that a worker may be busy, so that waiting stays short
SERVER_MS = 0.03  # CPU of a request besides the model's: HTTP, checks, telemetry, with many waiting
_TIMED = 200  # answers of the champion's bundle


def size(
    config: Config,
    changes: Mapping[str, str],
    *,
    rate: float | None = None,
    rows: int = 0,
    server_ms: float = SERVER_MS,
) -> dict[str, Any]:
    """JSON-ready: what is known, what the configuration would take, and what a rate needs.

    changes: parameters that differ from the champion's; a family alone means its defaults. Raises
    SpaceFault where nothing was learnt yet, or for parameters that the config's space has not.
    """
    known = foretelling.past(config)
    champion = places.registry(config).champion()
    if not known or champion is None:
        raise SpaceFault(
            f"what is foretold is learnt from trials, and {config.name} has "
            f"{'no champion' if known else 'none yet'}: run `everfit train` first"
        )
    performance = Performance(known, foretelling.targets(config))
    params = _configuration(config, lineage.read(config, champion).params, changes)
    told = {
        target: performance.foretell(params, target, rows=rows) for target in performance.targets
    }
    same = not changes
    return {
        "name": config.name,
        "learnt": {"trials": performance.trials, "searches": performance.searches},
        "reports": [{**asdict(one), "said": str(one)} for one in performance.reports()],
        "params": dict(params),
        "version": champion.version if same else None,
        "rows": rows,
        "foretold": {name: asdict(one) for name, one in told.items() if one is not None},
        "tried": _tried(known, params),
        "measured": _measured(config, champion) if same else {},
        "search": _search(config, told[SECONDS]),
        "serving": None
        if rate is None
        else _serving(config, champion, same, told, rate, server_ms),
    }


def _configuration(config: Config, own: Params, changes: Mapping[str, str]) -> dict[str, Scalar]:
    """The champion's parameters with `changes`, valid in the config's space."""
    from models import families
    from models.search.memory import repaired

    train = config.train
    space = families.space(train.families, train.trainer).override(train.space)
    params: dict[str, Scalar] = dict(own)
    family = changes.get("family", str(params.get("family")))
    if family != params.get("family"):
        fresh = [p for p in families.defaults(train.families, train.trainer)
                 if p["family"] == family]  # fmt: skip
        params = dict(fresh[0]) if fresh else {"family": family}
    for name, text in changes.items():
        params[name] = _value(space, name, text)
    found = repaired(params, space)
    if found is None:
        raise SpaceFault(
            f"a configuration is of the config's space, got family={family}: use one of "
            f"{', '.join(train.families)}"
        )
    for name in changes:
        if name not in found:
            raise SpaceFault(
                f"{name!r} does not count beside family={found['family']}: leave it out, or name "
                "the family that it is of"
            )
    return found


def _value(space: Space, name: str, text: str) -> Scalar:
    """A parameter's value from its words. Raises SpaceFault."""
    if name not in space:
        raise SpaceFault(
            f"{name!r} is no parameter of the config's space: use one of {', '.join(space.index)}"
        )
    for read in (int, float, lambda word: {"true": True, "false": False}[word], str):
        try:
            value: Scalar = read(text)
        except (ValueError, KeyError):
            continue
        if space[name].fault(value) is None:
            return value
    raise SpaceFault(f"{name!r}: {space[name].fault(text)}")


def _tried(known: Sequence[Seen], params: Params) -> dict[str, float]:
    """What the latest trial of just this configuration measured, if there was one."""
    wanted = tuple(sorted(params.items()))
    return next((dict(one.figures) for one in reversed(known) if one.configuration == wanted), {})


def _measured(config: Config, champion: Release) -> dict[str, float]:
    """The champion's own bundle, timed now on one thread: a row of its example, encoded."""
    from models.threads import one_thread

    predictor = _predictor(config, champion)
    columns = {name: values[:1] for name, values in predictor.example.items()}
    encoded = predictor.encoder.transform(columns)
    taken = []
    with one_thread():
        predictor.predict_encoded(encoded)
        cpu = time.thread_time()
        for _ in range(_TIMED):
            began = time.perf_counter()
            predictor.predict_encoded(encoded)
            taken.append(time.perf_counter() - began)
        cpu = time.thread_time() - cpu
    return {
        "latency_ms": 1_000 * float(np.median(taken)),
        "latency_p95_ms": 1_000 * float(np.quantile(taken, 0.95)),
        "predict_cpu_ms": 1_000 * cpu / _TIMED,
    }


def _predictor(config: Config, champion: Release) -> Predictor:
    from models.bundle import Predictor

    bundle = places.registry(config).download(champion.version, config.folder / "serving")
    return Predictor.load(bundle, digest=champion.digest)


def _search(config: Config, seconds: Foretold | None) -> dict[str, float] | None:
    """How long a search of such trials takes; None where nothing is known."""
    if seconds is None:
        return None
    train = config.train
    trials = train.warm_trials if train.remember else train.trials
    whole = seconds.value * math.ceil(trials / train.parallel)
    return {
        "trial_seconds": seconds.value,
        "trials": float(trials),
        "seconds": min(whole, train.seconds),
        "fit": float(min(trials, math.floor(train.seconds / seconds.value * train.parallel))),
    }


def _serving(
    config: Config,
    champion: Release,
    same: bool,
    told: Mapping[str, Foretold | None],
    rate: float,
    server_ms: float,
) -> dict[str, Any] | None:
    """Workers and memory for `rate` requests of one row a second; by the high end of what the
    model's CPU is foretold to be, or by what the champion's bundle takes now."""
    model = told["predict_cpu_ms"]
    if same:
        high: float | None = _measured(config, champion)["predict_cpu_ms"]
    else:
        high = None if model is None else model.high
    if high is None:
        return None
    cores = rate * (high + server_ms) / 1_000
    memory = told["size_mb"]
    return {
        "rate": rate,
        "cpu_ms": high + server_ms,
        "cores": cores,
        "workers": max(math.ceil(cores / BUSY), 1),
        "model_mb": None if memory is None else memory.high,
        "configured": config.serving.workers,
    }
