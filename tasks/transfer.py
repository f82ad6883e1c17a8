"""A study of two domains: how far apart, what the model is worth on the target, what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import DataFault, ModelError
from models.records import Params
from monitoring.estimates import Interval
from monitoring.transfer import worth
from monitoring.transfer.advice import Advice, advise
from monitoring.transfer.distances import Distances, distances
from tasks import places
from tasks.transfer_sides import Side, codes

if TYPE_CHECKING:
    import pandas as pd

    from models.training import Model
    from tasks.config import Config

log = logging.getLogger(__name__)

HELD = 0.3  # of the source's labelled rows, on which the model is measured
SCORED = 0.5  # of the target's rows, where there are labels to score by; the rest is adapted to
_HALVES = 2  # further models of half the source, whose agreement is asked for
LEAST = 50  # labelled rows that a model is taught by
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


@dataclass(frozen=True, slots=True)
class Study:
    """Accuracies are of rows that no model in question has learnt the labels of."""

    name: str
    sides: tuple[str, str]
    rows: tuple[int, int]
    labelled: tuple[int, int]
    by: str | None
    params: Params
    params_from: str
    apart: Distances
    source: Interval
    foretold: worth.Foretold
    target: Interval | None
    own: Interval | None  # a model of the target's labels
    drop: Interval | None
    off: float | None  # foretold minus measured
    adapted: tuple[Adapted, ...]
    advice: Advice
    telling: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    points: tuple[Array, Array] = field(default=(np.empty((0, 0)),) * 2, repr=False)

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready values, without the points; an interval has value, low and high."""
        kept = (one.name for one in fields(self) if one.name != "points")
        found = {name: _plain(getattr(self, name)) for name in kept}
        return {**found, "blind": worth.BLIND}


def study(
    config: Config,
    source: Side,
    target: Side,
    *,
    by: str | None = None,
    ways: Sequence[str] | None = None,
    tolerance: float = 0.02,
    permutations: int = 999,
    params: Params | None = None,
    seed: int = 0,
) -> Study:
    """Everything of the study. `ways` to adapt are tried, all that the family has where None.

    The source's labelled rows are split into those that are learnt and those on which the model is
    measured. Of a target with labels half is adapted to, without its labels, and the other half
    scores; the labels of the first half teach the model that has the target's labels. Parameters
    are `params`, or the champion's, or the family's defaults that do best on the source. Raises
    DataFault for too few labelled rows.
    """
    frame = source.frame[source.frame[config.data.target].notna()]
    if len(frame) < LEAST:
        raise DataFault(
            f"a study needs at least {LEAST} labelled source rows, got {len(frame)}: bring more"
        )
    rng = np.random.default_rng(seed)
    held, learnt = _split(frame, HELD, rng)
    labelled = codes(config, target.frame) >= 0
    scored = shown = target.frame
    if labelled.sum() >= 2 * worth.LEAST:
        scored, shown = _split(target.frame, SCORED, rng)
    chosen, origin = (params, "given") if params else parameters(config, learnt, seed)
    fits = _Fits(config, chosen, held, scored, shown, seed)
    model = fits.fit(learnt)
    answers = fits.answers(model)
    points = _points(model, held, scored, seed)
    foretold = worth.foretold(
        answers.held, fits.y_held, answers.scored, points=points,
        others=fits.others(learnt), seed=seed,
    )  # fmt: skip
    at_home = worth.measured(answers.held, fits.y_held)
    if at_home is None:
        raise DataFault(
            f"a study measures on at least {worth.LEAST} held-out source rows, got {len(held)}: "
            "bring more"
        )
    abroad = worth.measured(answers.scored, fits.y_scored)
    adapted = tuple(fits.adapted(learnt, answers, ways))
    own = None if abroad is None else fits.of_its_own()
    gains = {one.way: one.reverse if abroad is None else one.gain for one in adapted}
    apart, cloud = _apart(config, source, target, permutations, seed)
    return Study(
        name=config.name,
        sides=(source.name, target.name),
        rows=(len(source.frame), len(target.frame)),
        labelled=(len(frame), int(labelled.sum())),
        by=by,
        params=chosen,
        params_from=origin,
        apart=apart,
        source=at_home,
        foretold=foretold,
        target=abroad,
        own=own,
        drop=None if abroad is None else worth.drop(at_home, abroad),
        off=None if abroad is None else foretold.accuracy.value - abroad.value,
        adapted=adapted,
        advice=advise(
            apart, at_home, foretold.accuracy, abroad,
            {way: gain for way, gain in gains.items() if gain is not None},
            own=own, tolerance=tolerance,
        ),
        telling=_telling(config, source.frame, target.frame),
        points=cloud,
    )  # fmt: skip


class _Answers(NamedTuple):
    """Probabilities of one model on held-out source rows and on the target's."""

    held: Array
    scored: Array
    shown: Array


@dataclass(frozen=True, slots=True)
class _Fits:
    """The models of a study: all of one configuration, of different rows."""

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

    def answers(self, model: Model) -> _Answers:
        return _Answers(*map(model.predict_proba, (self.held, self.scored, self.shown)))

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
        """Of a model of the target's own labels."""
        target = self.config.data.target
        rows = self.shown[self.shown[target].notna()]
        if len(rows) < LEAST or rows[target].nunique() < 2:
            return None
        return worth.measured(self.fit(rows).predict_proba(self.scored), self.y_scored)

    def adapted(
        self, learnt: pd.DataFrame, plain: _Answers, ways: Sequence[str] | None
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
    valid, train = _split(learnt, 0.2, np.random.default_rng([seed, 1]))
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


def _points(
    model: Model, source: pd.DataFrame, target: pd.DataFrame, seed: int
) -> tuple[Array, Array]:
    from models.transfer.features import points

    sides = (model.encoder.transform(frame) for frame in (source, target))
    return points(*sides, model.data.cardinality, seed=seed)


def _apart(
    config: Config, source: Side, target: Side, permutations: int, seed: int
) -> tuple[Distances, tuple[Array, Array]]:
    """Distances of columns where all are a table's, else of points that hold the texts as well;
    and the points."""
    import pandas as pd

    from models.encoding import Encoder
    from models.transfer.features import points

    frames = source.frame, target.frame
    encoder = Encoder.fit(pd.concat(frames, ignore_index=True), places.schema(config))
    both = points(*map(encoder.transform, frames), encoder.cardinality, seed=seed)
    if config.task == "text":
        return distances(*both, permutations=permutations, seed=seed), both
    columns = dict(config.data.columns)
    return distances(*frames, columns, permutations=permutations, seed=seed), both


def _telling(
    config: Config, source: pd.DataFrame, target: pd.DataFrame
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words that tell the domains apart, where there are texts."""
    texts = [name for name, kind in config.data.columns.items() if kind == "text"]
    if not texts:
        return (), ()
    from models.transfer.features import telling

    sides = (
        ["\n".join(row) for row in frame[texts].fillna("").astype(str).to_numpy().tolist()]
        for frame in (source, target)
    )
    return telling(*sides)


def _split(
    frame: pd.DataFrame, share: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random `share` of the rows, and the others; in their order."""
    held = np.zeros(len(frame), dtype=bool)
    held[rng.permutation(len(frame))[: max(2, round(share * len(frame)))]] = True
    return frame[held], frame[~held]


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value
