"""A study of two domains: how far apart, what the model is worth on the target, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import DataFault
from models.records import Params
from monitoring.estimates import Interval
from monitoring.transfer import worth
from monitoring.transfer.advice import Advice, advise
from monitoring.transfer.distances import Distances, distances
from tasks import places
from tasks.transfer_fits import LEAST, Adapted, Array, Fits, parameters, parted
from tasks.transfer_sides import Side, codes

if TYPE_CHECKING:
    import pandas as pd

    from models.training import Model
    from tasks.config import Config

HELD = 0.3  # of the source's labelled rows, on which the model is measured
SCORED = 0.5  # of the target's rows, where there are labels to score by; the rest is adapted to


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
    held, learnt = parted(frame, HELD, rng)
    labelled = codes(config, target.frame) >= 0
    scored = shown = target.frame
    if labelled.sum() >= 2 * worth.LEAST:
        scored, shown = parted(target.frame, SCORED, rng)
    chosen, origin = (params, "given") if params else parameters(config, learnt, seed)
    fits = Fits(config, chosen, held, scored, shown, seed)
    model = fits.fit(learnt)
    answers = fits.answers(model)
    points = _points(model, held, scored, seed)
    apart, cloud = _apart(config, source, target, permutations, seed)
    foretold = worth.foretold(
        answers.held, fits.y_held, answers.scored, points=points,
        others=fits.others(learnt), apart=apart.a_distance / 2, seed=seed,
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
