"""Every tuner that the benchmark knows, by one word.

controller                everfit's, as it ships
controller:steps=0:...    the same with some of its `Settings` changed: what each part brings
random                    everfit's uniform draws
tpe gp cma-es nsga-ii     Optuna's samplers as they come, in this environment
smac hebo                 in environments of their own: `everfit bench peers`
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models import search
from models.records import Trial
from models.search import RandomSearch
from models.search.controller import Controller
from models.search.proposing import Settings
from models.space import Categorical, Float, Int, Ordinal, Space
from tests.benchmarks.peers import environment
from tests.benchmarks.tuner.problems import Tuner

Make = Callable[[Space, int, int], Tuner]  # space, seed, trials that will be asked
PEERS = ("tpe", "gp", "cma-es", "nsga-ii", "smac", "hebo")
SEARCH = Path(search.__file__).parent
CORE = (
    "base", "controller", "proposing", "memory", "policy_net", "reward", "surrogate", "kernels",
    "acquisition", "imagination", "predictor", "judge", "related", "past", "stopping",
)  # fmt: skip
WORDS = ("controller", "random", *PEERS)


def tuner(word: str) -> Make:
    """The maker of a tuner. Raises SystemExit for a word that is none."""
    name = word.partition(":")[0]
    if name == "controller":
        settings = settings_of(word)
        return lambda space, seed, trials: Controller(space, seed=seed, settings=settings)
    if name == "random":
        return lambda space, seed, trials: RandomSearch(space, seed=seed)
    if name in ("smac", "hebo"):
        return lambda space, seed, trials: Peer(f"tuner_{name}", space, seed, trials)
    if name in PEERS:
        return lambda space, seed, trials: Optuna(name, space, seed)
    raise SystemExit(f"no tuner is called {word!r}: use one of {', '.join(WORDS)}")


def settings_of(word: str) -> Settings:
    """Settings of 'controller:...'. Raises SystemExit for one that there is not."""
    wanted = changes(word.partition(":")[2])
    there = [f.name for f in fields(Settings)]
    unknown = sorted(set(wanted) - set(there))
    if unknown:
        raise SystemExit(f"the controller has the settings {', '.join(there)}, got {unknown}")
    return Settings(**wanted)


def changes(text: str) -> dict[str, Any]:
    """Settings out of 'steps=0:explore=0.2'.

    >>> changes("steps=0:explore=0.2")
    {'steps': 0, 'explore': 0.2}
    """
    pairs = [part.partition("=") for part in text.split(":") if part]
    return {name.strip(): json.loads(value) for name, _, value in pairs}


def released(word: str) -> str:
    """What a tuner's figures were measured with."""
    name = word.partition(":")[0]
    if name == "controller":  # it changes between releases: its figures are of these sources
        sources = b"".join((SEARCH / f"{part}.py").read_bytes() for part in _core())
        return f"everfit {version('everfit')} {hashlib.sha256(sources).hexdigest()[:8]}"
    if name == "random":
        return f"everfit {version('everfit')}"
    if name in ("smac", "hebo"):
        text = (environment.HERE / f"tuner_{name}.txt").read_text(encoding="utf-8")
        return next(line for line in text.lower().splitlines() if line.startswith(f"{name}=="))
    return f"optuna {version('optuna')}"


def _core() -> list[str]:
    """Modules of the search that the controller's proposals depend on."""
    return [part for part in CORE if (SEARCH / f"{part}.py").exists()]


class Optuna:
    """One of Optuna's samplers by ask and tell, define-by-run where it can follow conditions.

    The GP and CMA-ES samplers want one fixed space: where the space has conditions they are given
    every parameter, and inactive ones are dropped.
    """

    def __init__(self, word: str, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        samplers = {
            "tpe": optuna.samplers.TPESampler,
            "gp": optuna.samplers.GPSampler,
            "cma-es": optuna.samplers.CmaEsSampler,
            "nsga-ii": optuna.samplers.NSGAIISampler,
        }
        self.space = space
        self.flat = word == "gp"
        self.study = optuna.create_study(sampler=samplers[word](seed=seed))
        self.failed = optuna.trial.TrialState.FAIL

    def ask(self) -> dict[str, Any]:
        self.trial = self.study.ask()
        params: dict[str, Any] = {}
        for p in self.space.parameters:
            counts = self.space.is_active(p, params)
            if not (counts or self.flat):
                continue
            if isinstance(p, Float):
                value: Any = self.trial.suggest_float(p.name, p.low, p.high, log=p.log)
            elif isinstance(p, Int):
                value = self.trial.suggest_int(p.name, p.low, p.high, log=p.log)
            elif isinstance(p, Ordinal):
                value = p.values[self.trial.suggest_int(p.name, 0, len(p.values) - 1)]
            else:
                assert isinstance(p, Categorical)
                value = self.trial.suggest_categorical(p.name, p.choices)
            if counts:
                params[p.name] = value
        return params

    def tell(self, trial: Trial) -> None:
        if trial.loss is None:
            self.study.tell(self.trial, state=self.failed)
        else:
            self.study.tell(self.trial, trial.loss)


class Peer:
    """A tuner in its own environment; raises SystemExit when that is not installed."""

    def __init__(self, name: str, space: Space, seed: int, trials: int) -> None:
        interpreter = environment.python(name)
        if interpreter is None:
            raise SystemExit(f"{name} is {environment.missing(name)}")
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(
            [str(interpreter), str(environment.HERE / f"{name}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **dict.fromkeys(environment.THREADS, "1"), "PYTHONPATH": ""},
        )
        self.seconds = 0.0
        self._say({"space": space.to_json(), "seed": seed, "trials": trials})

    def cpu(self) -> float:
        """CPU seconds that the peer has used, imports left out."""
        return self.seconds

    def ask(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise environment.PeerFault(f"the peer ended: {self.errors.read()[-2_000:]}")
        answer = json.loads(line)
        self.seconds = float(answer["cpu"])
        return dict(answer["params"])

    def tell(self, trial: Trial) -> None:
        self._say({"loss": trial.loss})

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        # it may be in the middle of a proposal that nobody will evaluate
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()

    def _say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
