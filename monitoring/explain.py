"""One decision as a page for a person: what, why, on what evidence, and what came of it.

A page is data, sections of lines of cells, so that a terminal may colour it and a pipe may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitoring.records import Action, Decision, Kind, Signal, Window
from monitoring.wording import moment

WORDS = {True: "breached", False: "fine", None: "silent"}
_KINDS = {  # in the order of a person's questions
    Kind.PERFORMANCE: "performance, from labels that have come",
    Kind.PROBATION: "the new champion against the one before it",
    Kind.ESTIMATE: "performance, estimated without labels",
    Kind.DRIFT: "drift of the inputs",
    Kind.PREDICTIONS: "drift of the answers",
    Kind.SCHEMA: "what came in against what may",
    Kind.LABELS: "labels",
    Kind.LATENCY: "latency",
    Kind.SERVICE: "service",
}


@dataclass(frozen=True, slots=True)
class Line:
    """Cells of one line, and how it is meant: breached, fine, silent or plain."""

    cells: tuple[str, ...]
    word: str = "plain"


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A decision with what is known around it."""

    decision: Decision
    outcome: Mapping[str, Any] | None = None  # how the retrain that it led to ended
    trace: Mapping[str, Any] = field(default_factory=dict)  # prediction and version, see `_trace`


def page(told: Told) -> tuple[Section, ...]:
    """Every section that has something to say."""
    decision = told.decision
    sections = (
        *_trace(told.trace),
        _head(decision),
        Section("why", _sentences(decision.reasons)),
        Section("a person was told", _sentences(decision.alerts, "breached")),
        *_signals(decision.signals.items),
        Section("what moved, most first", _sentences(decision.signals.moved)),
        Section(
            "rules that nearly fired", tuple(Line((n.rule, n.missing)) for n in decision.nearly)
        ),
        Section("what it led to", tuple(_outcome(told))),
        Section("where", tuple(_places(decision))),
    )
    return tuple(s for s in sections if s.lines)


def text(sections: Sequence[Section]) -> str:
    """The page as plain text: cells in columns, no colours, lines as long as they are."""
    parts = []
    for section in sections:
        columns = max(len(line.cells) for line in section.lines)
        widths = [
            max((len(line.cells[i]) for line in section.lines if i < len(line.cells)), default=0)
            for i in range(columns)
        ]
        rows = (
            "  ".join(cell.ljust(width) for cell, width in zip(line.cells, widths, strict=False))
            for line in section.lines
        )
        parts.append("\n".join([section.title, *(f"  {row.rstrip()}" for row in rows)]))
    return "\n\n".join(parts)


def _sentences(sentences: Sequence[str], word: str = "plain") -> tuple[Line, ...]:
    return tuple(Line((sentence,), word) for sentence in sentences)


def _head(decision: Decision) -> Section:
    window = decision.signals.window
    word = "plain" if decision.action is Action.KEEP else "breached"
    return Section(
        f"{window.model}: {decision.action.value} ({decision.rule})",
        (
            Line(("decided", moment(decision.time)), word),
            Line(("window", decision.window_id)),
            Line(("from", f"{moment(window.start)} to {moment(window.end)}")),
            Line(("rows", f"{_rows_of(window)}, {window.coverage:.0%} labelled by then")),
            *_not_stored(window),
            Line(("answered by", f"version {window.version}")),
            Line(("rule set", decision.rule_set)),
        ),
    )


def _rows_of(window: Window) -> str:
    sample = f" recorded, a share of {window.share:.3g} of all" if window.share < 1 else ""
    return f"{window.rows:,}{sample}"


def _not_stored(window: Window) -> tuple[Line, ...]:
    if not window.not_stored:
        return ()
    return (Line(("not stored", f"{', '.join(window.not_stored)}: no test looks at them")),)


def _signals(items: Sequence[Signal]) -> Iterator[Section]:
    for kind, title in _KINDS.items():
        mine = [s for s in items if s.kind is kind]
        if mine:
            yield Section(title, tuple(_signal(s) for s in mine))


def _signal(signal: Signal) -> Line:
    word = WORDS[signal.breached]
    remark = signal.reason if signal.breached is None or signal.breached else ""
    return Line(
        (signal.name, word, _figures(signal), signal.threshold, _rows(signal), remark), word
    )


def _figures(signal: Signal) -> str:
    shown = [] if signal.value is None else [f"{signal.value:.4g}"]
    if signal.low is not None or signal.high is not None:
        low, high = ("?" if b is None else f"{b:.4g}" for b in (signal.low, signal.high))
        shown.append(f"({low} to {high})")
    if signal.p_value is not None:
        shown.append(f"p = {signal.p_value:.2g}")
    effect = signal.detail.get("effect")
    if effect is not None:
        shown.append(f"effect {effect:.2g}")
    return " ".join(shown)


def _rows(signal: Signal) -> str:
    return f"{signal.rows:,} rows" if signal.rows else ""


def _outcome(told: Told) -> Iterator[Line]:
    outcome = told.outcome
    if outcome is None:
        nothing = {
            Action.RETRAIN: "nothing yet: no retrain of this window has ended",
            Action.ROLLBACK: "nothing yet: this decision has rolled nothing back",
            Action.RETUNE: "nothing, and nothing will come of itself: a person must act",
        }.get(told.decision.action)
        if nothing:
            yield Line((nothing,), "silent")
        return
    if "restored" in outcome:
        yield Line(("rolled back", f"version {outcome['rolled_back']}"), "breached")
        yield Line(("champion again", f"version {outcome['restored']}"), "fine")
        return
    passed = bool(outcome["passed"])
    yield Line(("version", str(outcome["version"] or "none was made"), ""))
    yield Line(("verdict", "passed" if passed else "refused"), "fine" if passed else "silent")
    yield Line(("because", str(outcome["reason"])))
    if going := outcome.get("rollout"):
        gone = {"done": "fine", "rolled back": "breached"}.get(going["mode"], "silent")
        yield Line(("roll-out", f"{going['stage']}: {going['why']}"), gone)
    if said := outcome.get("approval"):
        yield Line(("people", str(said)))
    memory = ", started from memory" if outcome.get("warm") else ""
    trials = f"{outcome['trials']} trials"
    yield Line(("cost", f"{trials}, {outcome['seconds']:.1f} s of training{memory}"))


def _places(decision: Decision) -> Iterator[Line]:
    for name, place in (
        ("report", decision.signals.report),
        ("picture", decision.signals.picture),
    ):
        if place:
            yield Line((name, place))


def trace_sections(trace: Mapping[str, Any]) -> tuple[Section, ...]:
    """A served prediction and the version that answered it, where no decision caused that."""
    return tuple(_trace(trace))


def _trace(trace: Mapping[str, Any]) -> Iterator[Section]:
    """`trace` has 'prediction' (see `lookup.prediction`), 'classes' and 'version'."""
    answer, made = trace.get("prediction"), trace.get("version")
    if answer:
        likely = sorted(
            zip(trace["classes"], answer["probabilities"], strict=False), key=lambda p: -(p[1] or 0)
        )
        label = answer["label"]
        known = "not known yet" if label is None else f"{label}, {moment(answer['label_arrived'])}"
        yield Section(
            f"prediction {answer['id']}",
            (
                Line(("asked", moment(answer["time"]))),
                Line(("answered", ", ".join(f"{c} {p:.3f}" for c, p in likely if p is not None))),
                Line(("label", known)),
                Line(("by", f"version {answer['version']}")),
            ),
        )
    if made:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in made["metrics"].items())
        yield Section(
            f"version {made['version']}",
            (
                Line(("made", moment(made["made"]))),
                Line(("learnt", f"{made['rows']:,} rows" + _through(made["trained_through"]))),
                Line(("at the gate", f"{metrics}: {made['gate']}")),
                Line(("caused by", f"window {made['window_id']}{made['note']}")),
            ),
        )


def _through(last: Any) -> str:
    return f", the newest of {moment(last)}" if last else ""
