"""The parameters of a search, one row each: the policy before and after, what was tried, weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.search.base import key
from models.search.reward import loss_of
from models.space import Categorical

if TYPE_CHECKING:
    from models.space import Parameter
    from tasks.tuning_pictures import Shown

ROWS = 16  # parameters that are drawn
_CHOICES = 6
_LEFT, _STRIP, _TEXT, _RIGHT = 0.205, 0.665, 0.805, 0.97  # of the width: strip, words, importance
_NAME, _CHOICE = 30, 96  # characters


def chosen_rows(shown: Shown) -> tuple[list[Parameter], int]:
    """The parameters to draw in the space's order, and how many are left out for lack of room.

    Those that matter most stay; without an importance, those that the policy narrowed most.
    """
    free = [p for p in shown.space.parameters if p.size() > 1]
    if len(free) <= ROWS:
        return free, 0

    def weight(parameter: Parameter) -> float:
        narrowed = -float(shown.after.get(parameter.name, {}).get("entropy", 0.0))
        return shown.importance.get(parameter.name, 0.0) + 1e-3 * narrowed

    kept = {p.name for p in sorted(free, key=weight, reverse=True)[:ROWS]}
    return [p for p in free if p.name in kept], len(free) - ROWS


def draw_rows(
    canvas: Any,
    shown: Shown,
    rows: Sequence[Parameter],
    left_out: int,
    *,
    bottom: float,
    top: float,
) -> None:
    from tasks.tuning_pictures import FAINT, INK, QUIET

    size = (bottom, top - bottom)
    strip = canvas.add_axes((_LEFT, size[0], _STRIP - _LEFT, size[1]))
    strip.set_xlim(-0.012, 1.012)
    strip.set_ylim(len(rows) - 0.45, -0.55)
    strip.set_yticks(range(len(rows)), [_cut(p.name, _NAME) for p in rows], size=9, color=INK)
    strip.set_xticks([])
    strip.tick_params(length=0)
    for spine in strip.spines.values():
        spine.set_visible(False)
    good = _good(shown)
    for y, parameter in enumerate(rows):
        if y:
            strip.axhline(y - 0.5, color=FAINT, linewidth=0.6)
        if isinstance(parameter, Categorical):
            said = _choices(strip, y, parameter, shown, good)
        else:
            said = _numbers(strip, y, parameter, shown, good)
        strip.text(1.03, y, said, size=8.5, color=INK, va="center", clip_on=False)
    heading = "Where the policy looked" if shown.after else "What was tried"
    more = f" ({left_out} parameters of less weight are not drawn)" if left_out else ""
    where = canvas.text
    line = top + 0.3 / canvas.get_figheight()
    where(0.02, line, heading + more, size=10, color=INK, va="center")
    _key(canvas, bool(shown.after), y=top + 0.1 / canvas.get_figheight())
    if shown.after:
        words = "after: 5 %, median, 95 %"
        where(_STRIP + 0.012, top + 0.1 / canvas.get_figheight(), words, size=8.5, color=QUIET,
              va="center")  # fmt: skip
    if shown.importance:
        _importance(canvas, shown, rows, size, line)


def _key(canvas: Any, policy: bool, *, y: float) -> None:
    from matplotlib.lines import Line2D

    from tasks.tuning_pictures import BLUE, INK, ORANGE, QUIET

    def dot(colour: str, marker: str, size: float) -> Any:
        return Line2D([], [], color=colour, marker=marker, markersize=size, linewidth=0)

    handles = [
        (dot(QUIET, "|", 7), "tried"),
        (dot(INK, "|", 9), "of the best quarter"),
        (dot(ORANGE, "D", 6), "chosen"),
    ]
    if policy:
        lines = [Line2D([], [], color=c, linewidth=5) for c in ("#b9bec4", BLUE)]
        handles = [(lines[0], "before, 5 to 95 %"), (lines[1], "after"), *handles]
    canvas.legend(
        [h for h, _ in handles], [t for _, t in handles], loc="center left", ncols=5,
        bbox_to_anchor=(_LEFT - 0.008, y), fontsize=8.5, frameon=False, handlelength=1.3,
        handletextpad=0.5, columnspacing=1.3, borderaxespad=0.0, labelcolor=INK,
    )  # fmt: skip


def _numbers(axes: Any, y: int, parameter: Any, shown: Shown, good: set[Any]) -> str:
    from tasks.tuning_pictures import BLUE, INK, ORANGE, QUIET

    before, after = (side.get(parameter.name, {}) for side in (shown.before, shown.after))
    for entry, at, colour in ((before, y - 0.24, "#b9bec4"), (after, y - 0.06, BLUE)):
        if "low" in entry:
            low, median, high = (parameter.to_unit(entry[k]) for k in ("low", "median", "high"))
            axes.barh(at, max(high - low, 0.004), 0.15, left=low, color=colour, linewidth=0)
            axes.plot([median] * 2, [at - 0.1, at + 0.1], color=INK, linewidth=1.4)
    ends = [parameter.from_unit(u) for u in (0.0, 1.0)]
    for x, side, value in ((0.0, "left", ends[0]), (1.0, "right", ends[1])):
        axes.text(x, y + 0.37, _figure(value), size=7.5, color=QUIET, ha=side, va="center")
    for trial in shown.trials:
        if parameter.name in trial.params:
            top = key(trial.params) in good
            x = parameter.to_unit(trial.params[parameter.name])
            axes.plot([x] * 2, [y + 0.06, y + 0.2], color=INK if top else QUIET,
                      alpha=0.95 if top else 0.4, linewidth=1.6 if top else 0.9)  # fmt: skip
    if shown.chosen is not None and parameter.name in shown.chosen.params:
        x = parameter.to_unit(shown.chosen.params[parameter.name])
        axes.plot([x], [y + 0.13], marker="D", color=ORANGE, markersize=5.5, zorder=5)
    if "low" not in after:
        return ""
    return " \u00b7 ".join(_figure(after[k]) for k in ("low", "median", "high"))


def _choices(axes: Any, y: int, parameter: Categorical, shown: Shown, good: set[Any]) -> str:
    """Each option in a slot of its own: two bars whose lengths are its probabilities."""
    from tasks.tuning_pictures import BLUE, INK, ORANGE, QUIET

    before, after = (
        dict(side.get(parameter.name, {}).get("probabilities", {}))
        for side in (shown.before, shown.after)
    )
    names = _most(parameter, after, shown)
    width = 1.0 / len(names)
    for slot, name in enumerate(names):
        left = slot * width
        for found, at, colour in ((before, y - 0.24, "#b9bec4"), (after, y - 0.06, BLUE)):
            if name in found:
                axes.barh(at, 0.9 * width * found[name], 0.15, left=left, color=colour, linewidth=0)
        tried = [t for t in shown.trials if str(t.params.get(parameter.name)) == name]
        best = sum(key(t.params) in good for t in tried)
        picked = shown.chosen is not None and str(shown.chosen.params.get(parameter.name)) == name
        if picked:
            axes.plot([left + 0.006], [y + 0.22], marker="D", color=ORANGE, markersize=5.5)
        room = int(_CHOICE * width)
        counted = f"{name}: {len(tried)} tried"
        label = f"{counted}, {best} of the best" if best else counted
        fitting = [text for text in (label, counted, name) if len(text) <= room]
        label = fitting[0] if fitting else _cut(name, room)
        axes.text(left + (0.022 if picked else 0.0), y + 0.24, label, size=7.5,
                  color=INK if picked else QUIET, va="center")  # fmt: skip
    if not after:
        return ""
    head = max(after, key=lambda name: after[name])
    was = f"{before[head]:.0%} \u2192 " if head in before else ""
    return f"{_cut(head, 12)} {was}{after[head]:.0%}"


def _most(parameter: Categorical, after: Mapping[str, float], shown: Shown) -> list[str]:
    """The options to draw: all, or the most probable, or the most tried, in their own order."""
    names = [str(choice) for choice in parameter.choices]
    if len(names) <= _CHOICES:
        return names
    tried = [str(trial.params.get(parameter.name)) for trial in shown.trials]

    def weight(name: str) -> float:
        return after.get(name, 0.0) + 1e-3 * tried.count(name)

    kept = sorted(names, key=weight, reverse=True)[:_CHOICES]
    return [name for name in names if name in kept]


def _importance(
    canvas: Any, shown: Shown, rows: Sequence[Parameter], size: tuple[float, float], line: float
) -> None:
    from tasks.tuning_pictures import FAINT, GREEN, INK

    axes = canvas.add_axes((_TEXT + 0.012, size[0], _RIGHT - _TEXT - 0.012, size[1]))
    shares = [shown.importance.get(p.name, 0.0) for p in rows]
    most = max([*shares, 1e-9])
    axes.barh(range(len(rows)), shares, 0.36, color=GREEN, linewidth=0)
    for y, share in enumerate(shares):
        axes.text(share + 0.03 * most, y, f"{share:.0%}", size=8.5, color=INK, va="center")
    axes.set_xlim(0, most * 1.3)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks([])
    axes.set_xticks([])
    for side, spine in axes.spines.items():
        spine.set_visible(side == "left")
        spine.set_color(FAINT)
    canvas.text(_TEXT + 0.012, line, "Importance", size=10, color=INK, va="center")


def _good(shown: Shown) -> set[Any]:
    """The best quarter of the complete trials."""
    losses = [(loss_of(trial), trial) for trial in shown.trials]
    known = sorted(((x, t.number, t) for x, t in losses if x is not None), key=lambda r: r[:2])
    return {key(trial.params) for _, _, trial in known[: max(len(known) // 4, 1)]}


def _figure(value: Any) -> str:
    """A value in few characters.

    >>> _figure(0.000327), _figure(0.0612345), _figure(12)
    ('3.3e-4', '0.0612', '12')
    """
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:.3g}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 1)] + "\u2026"
