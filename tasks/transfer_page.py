"""A study of two domains for people: its tables, its picture and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.transfer import worth
from monitoring.transfer.advice import said
from monitoring.transfer.page import Table, write
from monitoring.transfer.picture import Bar, draw

if TYPE_CHECKING:
    from monitoring.estimates import Interval
    from tasks.transfer import Study

PAGE, PICTURE, RECORD = "transfer.html", "transfer.png", "transfer.json"


def written(study: Study, folder: Path, *, seed: int = 0) -> tuple[Path, Path, Path]:
    """The page, the picture and the JSON record in `folder`."""
    source, target = study.sides
    title = f"{study.name}: from {source} to {target}"
    picture = draw(
        *study.points, study.sides, _bars(study), _words(study), folder / PICTURE,
        title=title, seed=seed,
    )  # fmt: skip
    page = write(
        folder / PAGE,
        picture,
        title=title,
        subtitle=subtitle(study),
        advice=str(study.advice),
        reasons=study.advice.reasons,
        tables=tables(study),
    )
    record = folder / RECORD
    record.write_text(json.dumps(study.to_json(), indent=2) + "\n", encoding="utf-8")
    return page, picture, record


def subtitle(study: Study) -> str:
    """Rows, labels, and whose parameters."""
    (m, n), (k, j) = study.rows, study.labelled
    where = f", values of {study.by}" if study.by else ""
    return (
        f"{m:,} source rows ({k:,} labelled), {n:,} target rows ({j:,} labelled){where}; "
        f"parameters: {study.params_from} ({study.params['family']})"
    )


def tables(study: Study) -> list[Table]:
    """Distances, accuracies, and what tells the domains apart."""
    apart = study.apart
    found = [
        Table(
            "How far apart",
            ("measure", "value", "p-value", "range"),
            (
                ("MMD", f"{apart.mmd:.3f}", f"{apart.mmd_p:.3g}", "0 for one distribution"),
                ("effect of the MMD", f"{apart.effect:.3f}", "", "0 to about 1, of the spread"),
                ("accuracy of telling them apart", f"{apart.accuracy:.3f}",
                 f"{apart.domain_p:.3g}", "0.5 tells nothing, 1 always"),
                ("proxy A-distance", f"{apart.a_distance:.3f}", "", "0 to 2"),
            ),
            f"Of {apart.rows[0]:,} and {apart.rows[1]:,} rows, without their labels; both p-values "
            "are of permutations.",
        ),
        Table(
            "What models are worth", ("model", "rows", "accuracy"), tuple(_worth(study)),
            _note(study),
        ),
    ]  # fmt: skip
    if study.adapted:
        rows = tuple(
            (one.way, said(one.gain) if one.gain else "unknown", said(one.reverse))
            for one in study.adapted
        )
        found.append(
            Table(
                "What adapting adds",
                ("way", "gain on labelled target rows", "gain in reverse validation"),
                rows,
                "Reverse validation: a model taught by the answers on the target is asked the "
                "source's labelled rows.",
            )
        )
    if any(study.telling):
        rows = tuple(
            (side, ", ".join(words) or "none")
            for side, words in zip(study.sides, study.telling, strict=True)
        )
        found.append(Table("Words that tell the domains apart", ("domain", "words"), rows))
    if apart.tell:
        rows = tuple((name, f"{loss:.3f}") for name, loss in apart.tell)
        found.append(
            Table("Columns that tell the domains apart", ("column", "AUC lost without it"), rows)
        )
    return found


def _worth(study: Study) -> list[tuple[str, str, str]]:
    source, target = study.sides
    rows = [
        ("of the source", f"{source}, held out", said(study.source)),
        ("of the source", f"{target}, foretold without labels", said(study.foretold.accuracy)),
    ]
    if study.target is not None:
        rows.append(("of the source", f"{target}, measured", said(study.target)))
    rows += [
        (f"adapted by {one.way}", f"{target}, measured", said(one.measured))
        for one in study.adapted
        if one.measured is not None
    ]
    if study.own is not None:
        rows.append(("of the target's labels", f"{target}, measured", said(study.own)))
    return rows


def _note(study: Study) -> str:
    note = worth.BLIND.capitalize() + "."
    if study.off is not None and study.drop is not None:
        off = "too high" if study.off > 0 else "too low"
        note = (
            f"The foretold accuracy was {abs(study.off):.3f} {off}; from the source to the target "
            f"{said(study.drop)} is lost. {note}"
        )
    return note


def _bars(study: Study) -> list[Bar]:
    source, target = study.sides

    def bar(name: str, found: Interval, target: bool = True, measured: bool = True) -> Bar:
        return Bar(name, found, target, measured)

    bars = [
        bar(f"source's model on {source}", study.source, target=False),
        bar(f"on {target}, foretold", study.foretold.accuracy, measured=False),
    ]
    if study.target is not None:
        bars.append(bar(f"on {target}, measured", study.target))
    bars += [bar(f"adapted by {one.way}", one.measured) for one in study.adapted if one.measured]
    if study.own is not None:
        bars.append(bar(f"of the labels of {target}", study.own))
    return bars


def _words(study: Study) -> list[str]:
    apart = study.apart
    words = [
        f"MMD {apart.mmd:.3f} (p {apart.mmd_p:.3g}), effect {apart.effect:.3f}; told apart with "
        f"accuracy {apart.accuracy:.3f} (p {apart.domain_p:.3g}), "
        f"A-distance {apart.a_distance:.2f}",
    ]
    words += [
        f"{side}: {', '.join(told[:6])}"
        for side, told in zip(study.sides, study.telling, strict=True)
        if told
    ]
    if apart.tell:
        words.append("told apart by " + ", ".join(name for name, _ in apart.tell[:5]))
    return [*words, f"Advice: {study.advice}", *study.advice.reasons[-2:]]
