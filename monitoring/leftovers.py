"""What processes that died have left half done, and what to do about each: pure, from the facts.

`found` is asked at start-up and every few minutes. Each finding names something that is carried on
or cleaned up in a way that may be repeated: a second process that finds the same does no harm, and
neither does one that is killed half-way. Nothing is found that a living process works at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

_ROLLING = ("shadow", "canary", "bake")  # stages of a roll-out that is not over
_UNSEEN = ("shadow", "canary")  # and those in which its version is no champion


class Do(StrEnum):
    """What is done about a finding, in this order."""

    CRASH = "mark the run as crashed"
    COMPLETE = "complete the version"
    CLOSE = "close the run"
    HEAL = "complete the move of the alias"
    DROP = "take the alias away"
    ROLL_BACK = "complete the roll-back"
    END = "end the roll-out"
    STEP = "take the roll-out on"
    TELL = "tell the policy"
    GIVE_UP = "give the window up"
    RESUME = "carry the retrain on"
    RETRAIN = "retrain"
    DISCARD = "delete the files"


@dataclass(frozen=True, slots=True)
class Window:
    """A claim. `silent`: since its owner was last heard of; None where owners do not beat."""

    window_id: str
    state: str  # running, done or failed
    lives: bool  # its owner does, as far as can be told
    attempts: int
    started: datetime  # of the last attempt
    updated: datetime
    error: str = ""
    silent: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision that asks for something: a retrain, or with `rollback` the champion of before."""

    window_id: str
    time: datetime
    version: str  # the champion that it is about
    rollback: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version. `stage`: of its roll-out, '' for none."""

    version: str
    window_id: str
    stage: str = ""
    promoted: datetime | None = None
    restored: datetime | None = None
    rejected: datetime | None = None
    rolled_back: datetime | None = None
    rolled_back_by: str = ""  # id of the decision


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A tracking run that was never ended; `version`: what was made of it, '' for nothing."""

    run_id: str
    window_id: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Silent:
    """A flow run that the server takes for running, and how long nothing was heard of it."""

    run_id: str
    name: str
    silent: timedelta
    window_id: str = ""  # that it holds


@dataclass(frozen=True, slots=True)
class Folder:
    """Files that only a process at work needs; `window_id` '' for scratch of any process."""

    path: str
    age: timedelta
    window_id: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """One model as its stores tell of it, read without a lock."""

    windows: tuple[Window, ...] = ()
    asked: tuple[Asked, ...] = ()  # newest first
    newest: str = ""  # window id of the newest decision of any kind
    versions: tuple[Version, ...] = ()
    champion: str | None = None
    recorded: str | None = None  # the champion by the model's own record
    challenger: str | None = None
    told: tuple[str, ...] = ()  # keys of what the policy knows
    on_the_way: bool = False  # a challenger is rolled out, or waits for a person's word
    undo: bool = False  # servers were told to go back, and the registry may not know
    open_runs: tuple[OpenRun, ...] = ()
    silent: tuple[Silent, ...] = ()
    folders: tuple[Folder, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each kind of thing may look unfinished before it counts as left behind."""

    grace: timedelta = timedelta(minutes=2)  # a decision, until its retrain has begun
    resume: timedelta = timedelta(0)  # a dead owner, for who would start the same run again
    horizon: timedelta = timedelta(days=1)  # an older decision is the next check's affair
    attempts: int = 5  # at one window; what ends its process each time is no accident
    retry: timedelta = timedelta(minutes=5)  # after the first fault; doubles with each
    beats: timedelta = timedelta(minutes=4)  # of silence of a flow run
    scratch: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was left behind, and what is to be done about it."""

    do: Do
    subject: str  # a window, a version, a run or a folder
    why: str
    attempt: int = 0
    detail: dict[str, str] = field(default_factory=dict)


def found(facts: Facts, now: datetime, limits: Limits = Limits()) -> tuple[Finding, ...]:
    """Everything that was left behind, in the order in which it is to be set right."""
    every = [
        *_runs(facts, limits),
        *_versions(facts),
        *_aliases(facts),
        *_rollouts(facts),
        *_untold(facts, now, limits),
        *_windows(facts, now, limits),
        *_decisions(facts, now, limits),
        *_folders(facts, limits),
    ]
    order = list(Do)
    return tuple(sorted(every, key=lambda finding: order.index(finding.do)))


def _held(facts: Facts) -> set[str]:
    """Windows that a living process works at."""
    return {w.window_id for w in facts.windows if w.state == "running" and w.lives}


def _runs(facts: Facts, limits: Limits) -> Iterator[Finding]:
    for run in facts.silent:
        if run.silent > limits.beats and run.window_id not in _held(facts):
            minutes = run.silent / timedelta(minutes=1)
            why = f"nothing was heard of {run.name} for {minutes:.0f} minutes"
            yield Finding(Do.CRASH, run.run_id, why)


def _versions(facts: Facts) -> Iterator[Finding]:
    for run in facts.open_runs:
        if run.window_id in _held(facts):
            continue
        if run.version:
            why = f"version {run.version} was made, and nothing that follows"
            yield Finding(Do.COMPLETE, run.window_id, why)
        else:
            why = f"no version came of it, and nobody works at window {run.window_id}"
            yield Finding(Do.CLOSE, run.run_id, why)


def _aliases(facts: Facts) -> Iterator[Finding]:
    by_version = {v.version: v for v in facts.versions}
    champion = by_version.get(facts.champion or "")
    if champion is not None and facts.recorded != facts.champion:
        why = f"the record says {facts.recorded or 'nobody'} is champion"
        yield Finding(Do.HEAL, champion.version, why)  # which also takes `challenger` from it
        return
    if champion is not None and _half_rolled_back(champion):
        # its first tag may be all that was written: then it has no id yet
        by = champion.rolled_back_by or f"roll-back of version {champion.version}"
        why = f"decision {by} took it back, and it still is champion"
        yield Finding(Do.ROLL_BACK, champion.version, why, detail={"decision_id": by})
    waiting = by_version.get(facts.challenger or "")
    if waiting is None or waiting.window_id in _held(facts):
        return
    if waiting.version == facts.champion and waiting.stage not in _UNSEEN:
        yield Finding(Do.DROP, waiting.version, "the champion is nobody's challenger")
    elif waiting.version != facts.champion and (waiting.rejected or waiting.rolled_back):
        yield Finding(Do.DROP, waiting.version, "it was turned away, and is called challenger")


def _half_rolled_back(champion: Version) -> bool:
    """Whether the tags of a roll-back are there and its move is not."""
    since = max((t for t in (champion.promoted, champion.restored) if t), default=None)
    gone = champion.rolled_back
    return gone is not None and (since is None or gone >= since)


def _rollouts(facts: Facts) -> Iterator[Finding]:
    if facts.undo:
        yield Finding(Do.STEP, facts.champion or "", "servers went back, the registry has not yet")
    for version in facts.versions:
        if version.stage not in _ROLLING or version.window_id in _held(facts):
            continue
        if version.version == facts.champion and version.stage in _UNSEEN:
            yield Finding(Do.STEP, version.version, "it was promoted, and that was not noted")
        elif version.version not in (facts.champion, facts.challenger):
            bad = version.rejected is not None or version.rolled_back is not None
            why = "it was turned away" if bad else "another version took its place"
            detail = {"bad": "yes"} if bad else {}
            yield Finding(
                Do.END, version.version, f"{why} in its stage {version.stage}", detail=detail
            )


def _untold(facts: Facts, now: datetime, limits: Limits) -> Iterator[Finding]:
    """Roll-backs that the policy was not told of, so that it would ask for the same again."""
    done = {w.window_id for w in facts.windows if w.state == "done"}
    for version in facts.versions:
        gone, key = version.rolled_back, version.rolled_back_by
        if (
            gone is None
            or not key
            or version.version == facts.champion
            or version.stage in _ROLLING
        ):
            continue
        by_retrain = key == version.window_id  # which tells of it itself when it ends
        told = key in facts.told or (by_retrain and key not in done)
        if not (told or f"retrain {key}" in facts.told) and now - gone <= limits.horizon:
            yield Finding(
                Do.TELL, version.version, f"{key} took it back, and only the registry knows"
            )


def _windows(facts: Facts, now: datetime, limits: Limits) -> Iterator[Finding]:
    """Retrains that broke off: at most one is carried on, since a model retrains one at a time."""
    if any(w.state == "running" and w.lives for w in facts.windows):
        return
    decided = {a.window_id for a in facts.asked if not a.rollback}
    dead = [w for w in facts.windows if w.state == "running"]
    failed = [w for w in facts.windows if w.state == "failed" and w.window_id in decided]
    if facts.on_the_way:  # no other challenger is made meanwhile
        own = {v.window_id for v in facts.versions if v.version == facts.challenger}
        failed = [w for w in failed if w.window_id in own]
    for window in dead:
        if window.silent is not None and window.silent < limits.resume:
            continue
        why = f"its process died in attempt {window.attempts}"
        yield _again(window, why, limits)
        return
    for window in sorted(failed, key=lambda w: w.started, reverse=True):
        pause = limits.retry * 2 ** (window.attempts - 1)
        if _superseded(facts, window) or now - window.updated > limits.horizon + pause:
            continue
        spent = window.attempts >= limits.attempts
        if spent or now - window.updated >= pause:
            yield _again(window, f"attempt {window.attempts} failed: {window.error}", limits)
            return


def _again(window: Window, why: str, limits: Limits) -> Finding:
    do = Do.GIVE_UP if window.attempts >= limits.attempts else Do.RESUME
    return Finding(do, window.window_id, why, attempt=window.attempts)


def _superseded(facts: Facts, window: Window) -> bool:
    """Whether a later retrain answers what this one was to answer."""
    return any(
        w.window_id != window.window_id and w.started >= window.started for w in facts.windows
    )


def _decisions(facts: Facts, now: datetime, limits: Limits) -> Iterator[Finding]:
    """What was decided and begun by nobody: the event was lost, or the check died just then."""
    for asked in facts.asked:
        age = now - asked.time
        if age < limits.grace or age > limits.horizon:
            continue
        if asked.rollback:
            if asked.window_id == facts.newest and asked.version == facts.champion:
                detail = {"decision_id": asked.window_id}
                yield Finding(Do.ROLL_BACK, asked.version, asked.why, detail=detail)
        elif not _answered(facts, asked):
            yield Finding(Do.RETRAIN, asked.window_id, asked.why)
            return  # it answers the older ones too


def _answered(facts: Facts, asked: Asked) -> bool:
    claimed = any(
        w.window_id == asked.window_id
        or w.state == "running"
        or w.started >= asked.time
        or (w.state == "done" and w.updated >= asked.time)
        for w in facts.windows
    )
    # A check that decides while another challenger is on its way makes none; when that one comes to
    # a bad end the policy waits, and what was decided before does not go past it.
    changed = any(
        t >= asked.time
        for v in facts.versions
        for t in (v.promoted, v.restored, v.rejected, v.rolled_back)
        if t is not None
    )
    return claimed or changed or facts.on_the_way


def _folders(facts: Facts, limits: Limits) -> Iterator[Finding]:
    done = {w.window_id for w in facts.windows if w.state == "done"}
    for folder in facts.folders:
        if folder.window_id and folder.window_id in done:
            yield Finding(Do.DISCARD, folder.path, "its retrain has ended")
        elif not folder.window_id and folder.age > limits.scratch:
            hours = folder.age / timedelta(hours=1)
            yield Finding(Do.DISCARD, folder.path, f"nobody has touched it for {hours:.0f} hours")
