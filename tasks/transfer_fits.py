"""The models of a study of two domains: of the source, of halves of it, adapted, of the target."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import DataFault, ModelError
from models.records import Params
from monitoring.estimates import Interval
from monitoring.transfer import worth
from tasks import places
from tasks.transfer_sides import codes

if TYPE_CHECKING:
    import pandas as pd

    from models.training import Model
    from tasks.config import Config

log = logging.getLogger(__name__)

LEAST = 50  # labelled rows that a model is taught by
_HALVES = 2  # further models of half the source, whose agreement is asked for
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Adapted:
    """What one way to adapt came to. `reverse`: what a model taught by its answers on the target
    says of labelled source rows, against one taught by the plain model's answers."""

    way: str
    params: Params
    measured: Interval | None
    gain: Interval | None  # over the source's model, on the same labelled target rows
    reverse: Interval


class Answers(NamedTuple):
    """Probabilities of one model on held-out source rows and on the target's."""

    held: Array
    scored: Array
    shown: Array


@dataclass(frozen=True, slots=True)
class Fits:
    """Models of one configuration, of different rows."""

    config: Config
    params: Params
    held: pd.DataFrame
    scored: pd.DataFrame
    shown: pd.DataFrame  # rows of the target that a fit may adapt to
    seed: int

    @property
    def y_held(self) -> NDArray[np.int64]:
        return codes(self.config, self.held)

    @property
    def y_scored(self) -> NDArray[np.int64]:
        return codes(self.config, self.scored)

    def fit(self, rows: pd.DataFrame, params: Params | None = None) -> Model:
        from models import training

        return training.fit(
            rows,
            places.schema(self.config),
            self.params if params is None else params,
            seed=self.seed,
            trainer=self.config.train.trainer,
            target=self.shown,
        )

    def answers(self, model: Model) -> Answers:
        return Answers(*map(model.predict_proba, (self.held, self.scored, self.shown)))

    def others(self, learnt: pd.DataFrame) -> list[tuple[Array, Array]]:
        """Answers of models of half the source each."""
        found = []
        for number in range(_HALVES):
            part = learnt.sample(frac=0.5, random_state=self.seed + 1 + number)
            if part[self.config.data.target].nunique() > 1:
                said = self.answers(self.fit(part))
                found.append((said.held, said.scored))
        return found

    def of_its_own(self) -> Interval | None:
        """Of a model of the target's own labels, where rows that are not scored have some."""
        if self.shown is self.scored:
            return None
        target = self.config.data.target
        rows = self.shown[self.shown[target].notna()]
        if len(rows) < LEAST or rows[target].nunique() < 2:
            return None
        return worth.measured(self.fit(rows).predict_proba(self.scored), self.y_scored)

    def adapted(
        self, learnt: pd.DataFrame, plain: Answers, ways: Sequence[str] | None
    ) -> Iterator[Adapted]:
        """Each way to adapt that the family can be given."""
        from models import families
        from models.transfer import adapt

        name, own = families.split(self.params)
        family = families.get(name, self.config.train.trainer)
        back = self._back(plain.shown)
        for way in adapt.offered(family, adapt.METHODS if ways is None else ways):
            if way == "coral" and not _numbers(self.config):
                continue  # nothing to align
            strength = own.get(adapt.STRENGTH, adapt.USUAL[way])
            asked = {
                **self.params, f"{name}.{adapt.CHOICE}": way, f"{name}.{adapt.STRENGTH}": strength
            }  # fmt: skip
            try:
                said = self.answers(self.fit(learnt, asked))
            except ModelError as fault:  # one way that does not go ends no study
                log.warning("%s: adapting by %s: %s", self.config.name, way, fault)
                continue
            known = self.y_scored >= 0
            measured = worth.measured(said.scored, self.y_scored)
            gain = None
            if measured is not None:
                right = (_right(part.scored, self.y_scored)[known] for part in (plain, said))
                gain = worth.gain(*right)
            yield Adapted(way, asked, measured, gain, worth.gain(back, self._back(said.shown)))

    def _back(self, proba: Array) -> NDArray[np.bool_]:
        """Which held-out source rows a model is right on that was taught by answers on the target.

        Reverse validation (Zhong et al. 2010, 'Cross validation framework to choose amongst models
        and datasets for transfer learning'): answers that make sense lead back to the source.
        """
        target = self.config.data.target
        classes = np.array(self.config.data.classes, dtype=object)
        rows = self.shown.assign(**{target: classes[proba.argmax(axis=1)]})
        if rows[target].nunique() < 2:
            return np.zeros(len(self.held), dtype=bool)
        return _right(self.fit(rows, _unadapted(self.params)).predict_proba(self.held), self.y_held)


def parameters(config: Config, learnt: pd.DataFrame, seed: int) -> tuple[Params, str]:
    """The champion's, else the defaults that do best on a fifth of `learnt`; and which they are."""
    from models import families, training

    champion = _champion(config)
    if champion is not None:
        return champion
    choices = families.defaults(config.train.families, config.train.trainer)
    if not choices:
        raise DataFault(
            "a study needs parameters, and the config's families have no defaults: train a "
            "champion first with `everfit train`"
        )
    if len(choices) == 1:
        return choices[0], "default"
    valid, train = parted(learnt, 0.2, np.random.default_rng([seed, 1]))
    tried = [
        training.evaluate_trial(
            train, valid, places.schema(config), params, number=number, seed=seed,
            objective=config.train.objective, trainer=config.train.trainer,
            seconds=config.train.seconds,
        )
        for number, params in enumerate(choices)
    ]  # fmt: skip
    done = [trial for trial in tried if trial.loss is not None]
    if not done:
        raise DataFault(f"no family could be fitted: {tried[0].error}")
    best = min(done, key=lambda trial: (trial.loss, trial.number))
    return best.params, "default, the best of the families on the source"


def _champion(config: Config) -> tuple[Params, str] | None:
    from tasks import lineage

    if not (config.folder / "mlflow.db").exists() and config.engines.registry is None:
        return None  # looking would make a registry
    release = places.registry(config).champion()
    if release is None:
        return None
    found = lineage.read(config, release)
    return _unadapted(found.params), f"the champion's, v{release.version}"


def _unadapted(params: Params) -> Params:
    from models.transfer import adapt

    ends = (f".{adapt.CHOICE}", f".{adapt.STRENGTH}")
    return {name: value for name, value in params.items() if not name.endswith(ends)}


def _numbers(config: Config) -> bool:
    return "number" in config.data.columns.values() or config.task == "text"


def _right(proba: Array, y: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(proba.argmax(axis=1) == y)


def parted(
    frame: pd.DataFrame, share: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random `share` of the rows, and the others; in their order."""
    held = np.zeros(len(frame), dtype=bool)
    held[rng.permutation(len(frame))[: max(2, round(share * len(frame)))]] = True
    return frame[held], frame[~held]
