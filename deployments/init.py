"""Write a commented config for a table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deployments.check import HOLDOUT_SHARE, LOOKED_AT, TRAINING_ROWS
from models.errors import DataFault
from tasks import engines
from tasks.config import Config, ConfigFault, Monitor, beside

if TYPE_CHECKING:
    import pandas as pd

    from models.schema import Schema

_BOOSTED = 400  # fewer rows than this are fitted by the linear model and the forest alone
_TABLE = ("logistic", "hgb", "forest", "mlp")
_TEXT = ("tfidf", "textnet")  # sentence needs an extra


def write_config(
    name: str,
    data: Path | str,
    target: str,
    time: str | None = None,
    *,
    query: str | None = None,
    output: Path | None = None,
    force: bool = False,
) -> tuple[Path, list[str]]:
    """Infer the columns of `data` and write NAME.yaml. Returns its path and notes on the columns.

    With a `query`, `data` is a database's URL without a password; its first rows are looked at.
    Raises ConfigFault for a name that no config may have or a file that is there already (unless
    `force`), DataFault for a table that cannot be learnt from.
    """
    from models.data import read_table, times
    from models.schema import infer

    path = (output or Path(f"{name}.yaml")).expanduser().resolve()
    pattern = str(Config.model_fields["name"].metadata[0].pattern)
    if not re.match(pattern, name):
        raise ConfigFault(
            f"a name has lower-case letters, digits, - and _, got {name!r}: choose another, for "
            "instance my-model"
        )
    if path.exists() and not force:
        raise ConfigFault(f"{path} is there already: name another with --output, or use --force")
    if query is None:
        source = os.path.relpath(Path(data).expanduser().resolve(), path.parent)
        frame = read_table(Path(data))
    else:
        source = str(data)
        frame = _asked(name, source, query, time, path)
    schema, notes = infer(frame, target, time)
    if time is not None:
        times(frame, time)
    labels = frame[target].dropna()
    rows = len(labels)
    held = int(rows * HOLDOUT_SHARE)
    if held < 2 or rows - held < TRAINING_ROWS:
        raise DataFault(
            f"{rows} labelled rows are too few to train on and to prove a model: bring "
            f"{TRAINING_ROWS + TRAINING_ROWS // 4} or more"
        )
    text = render(name, source, schema, classes_of(schema, labels), rows, notes, query)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path, notes


def _asked(name: str, url: str, query: str, time: str | None, path: Path) -> pd.DataFrame:
    """The first rows of a query. Raises ConfigFault for a URL that no config may hold."""
    from models.sql import SqlSource

    try:
        engines.checked(url, "source", "--sql")
    except ValueError as fault:
        raise ConfigFault(str(fault)) from None
    at = beside(engines.data_url(name, url), path)
    return SqlSource(at, query, time).read(most=LOOKED_AT)


def classes_of(schema: Schema, labels: pd.Series) -> list[Any]:
    """The classes in the config's order: of two, the rarer one, taken as positive, comes last."""
    from models.schema import class_key

    classes = list(schema.classes)
    if len(classes) == 2:
        counts = labels.map(class_key).value_counts()
        classes.sort(key=lambda label: -int(counts.get(class_key(label), 0)))
    return classes


def render(
    name: str,
    source: str,
    schema: Schema,
    classes: list[Any],
    rows: int,
    notes: list[str],
    query: str | None = None,
) -> str:
    """The text of the config."""
    held = int(rows * HOLDOUT_SHARE)
    gate_rows = min(2_000, held)
    minimum = min(200, max(2, gate_rows // 2))
    watched = min(Monitor().minimum_rows, max(30, rows // 10))
    from models import families

    texts = bool(schema.texts)
    reading = families.reading("text")
    chosen = ["logistic", "hgb"] if rows >= _BOOSTED else ["logistic", "forest"]
    if texts:
        chosen = [name for name in _TEXT if name in reading]
    of = ", ".join(reading if texts else _TABLE) + (" for text" if texts else "")
    task = f"task: {'text ' if texts else 'table'}"
    columns = "\n".join(f"    {_yaml(c.name)}: {c.kind}" for c in schema.columns)
    left_out = "".join(f"\n    # {' '.join(note.split())}" for note in notes)
    time = f"time: {_yaml(schema.time)}" if schema.time is not None else "# time: COLUMN"
    asked = (
        "# query:                # of a database: one SELECT; with :since only new rows are read"
    )
    if query is not None:
        asked = f"query: {_yaml(query.strip())}"
    new_labels = min(500, max(20, rows // 10))
    return _aligned(f"""\
# {name}: one model under everfit's care. Paths are relative to this file; a key that is left out
# has the default shown. `everfit check` names every fault; durations are 90s, 30m, 6h, 7d or 2w.
name: {name}
{task if texts else "# " + task}  # text: there are columns of sentences, mails, reviews
# runs: runs/{name}        # everything the loop writes

data:
  source: {_yaml(source)}     # .csv, .csv.gz, .parquet, or a database: postgresql://user@host/db
  {asked}
  target: {_yaml(schema.target)}
  {time}  # when a row's prediction is asked for; without it rows are in no order
  classes: {_yaml(classes)}     # the positive class comes last
  label_delay: 0s           # how long after its time a row's label is known, mostly
  columns:                  # the inputs: number, category or text{left_out}
{columns}

train:
  families: {_yaml(chosen)}     # of {of}
  # trainer: mine:trainer   # your own: a search space and fit, in mine.py beside this file
  objective: log_loss       # or error, one_minus_auc
  # weights: {{}}             # what else counts; {{latency_ms: 0.02}}: a model twice as slow
                            # must have 2 % less loss; also macro (throughput), meso (CPU, memory,
                            # cost of a fit), micro (latency)
  # limits: {{}}              # such as {{latency_p95_ms: 20}}: what breaks one is behind all others
  # pareto:                 # none; or pick from the front: best accuracy with latency_ms <= 20
  # screen: true            # pass over, untried, what past trials say cannot keep a limit
  # compress: auto          # may trials make torch models smaller (sparse, narrower, a student of a
                            # larger one, int8)? auto: where weights, limits or pareto ask for it
  # adapt: []               # ways in which trials may adapt a model to the newest served rows, for
                            # which no label has come yet: weights, coral, mmd, self
  # tuner: controller       # or a baseline that remembers nothing: grid, random, quasi-random,
                            # tpe, gp, cma-es, nsga-ii
  trials: 16                # of the first search
  warm_trials: 6            # of each later one, which starts from what the earlier ones learnt
  # remember: true          # false: every search is cold, and has `trials`
  seconds: 120              # a search ends after so long at the latest
  # trial_seconds:          # none; a trial is stopped after so long
  parallel: 2               # trials at once
  # runner: threads         # where: threads, processes, or ray, dask (needs everfit[ray], [dask])
  # cluster:                # none: a Ray or Dask on this machine; or that at tcp://head:8786
  # fidelity: off           # off: fit every trial to its end; auto: stop one that can't win
  # trial_rows: 100000      # a trial fits on a sample of at most so many rows
  # validation: 0.2         # share of the newest rows that a trial is scored on
  # maximum_rows:           # the final fit sees at most so many of the newest rows; none: all
  # seed: 0
  space:                    # narrower or wider ranges; what is not named keeps the family's own
{_space_lines([n for n in _TEXT if n in reading] if texts else _TABLE)}

monitor:                    # what each check looks at
  window: 1d                # drift: predictions of so long
  # longer_windows: [7d]    # tested too, since slow drift shows in no single day
  # false_alarms: 0.01      # probability of any false drift alarm in a year of checks
  performance_window: 7d    # realised performance: those whose labels have come
  minimum_rows: {watched}         # fewer predictions than this say nothing
  minimum_labels: {watched}
  # recency: false          # fit two small models in each check: do newer rows teach better?
  # slices: []             # columns by whose values the performance is told as well
  # slice_thresholds: []    # such as [{{slice: COLUMN, metric: log_loss, worse_by: 0.1}}]
  # reference_rows: 2000    # training rows that windows are compared with
  # mmd_rows: 500           # of each side, in the drift test
  # block:                  # none; 1d: rows of a day resemble each other, permute whole days, of
                            # which a window needs some: everfit check says how many
  # performance_block:      # none; 1d: resample whole days; let performance_window hold 7 or more
  # permutations: 999
  # name_words: true        # of text columns: explain, digest and report name words that moved, if
                            # ten texts hold them
  # confidence: 0.95        # a threshold is breached when the whole interval lies beyond it
  thresholds:               # below, above, or worse_by: than at the gate
    - {{metric: log_loss, worse_by: 0.02}}
    - {{metric: latency_p95_ms, above: 500}}
    - {{metric: error_rate, above: 0.05}}  # of the requests to the server; alerts a person
    # - {{metric: accuracy, below: 0.9}}

policy:                     # when a breach leads to a retrain
  rule_set: default         # or performance-first: drift alone does not retrain while the
                            # performance, realised or estimated, is certainly within its thresholds
  # drift_p_value:          # fixed level of one drift test; none: from monitor.false_alarms
  # drifted_share: 0.3      # share of drifted columns at which the report alarms
  # minimum_effect: 0.05    # drift in which no column moved by so large a share of rows is watched
  # confirmations: 2        # so many of the last `memory` windows must show the breach
  # memory: 3
  # confirmations_estimated: 1  # enough for drift when the estimated loss is beyond its threshold
  # clear_after: 2          # after so many quiet windows a breach that was answered counts anew
  cooldown: 7d              # between two retrains, unless the champion is worse than guessing
  # refusal_backoff: 2.0    # each refusal by the gate in a row multiplies the cool-down by this,
                            # unless the loss is certainly above what it was then
  # probation: 14d          # a new champion certainly worse than the one before it is rolled back;
                            # a day's rows count as one, or those of monitor.performance_block
  # retrains_a_week: 2      # at most; null: no limit
  minimum_new_labels: {new_labels}   # labels that the champion has not learnt from
  # minimum_growth: 0.1     # of labelled rows since its training, for drift alone to retrain
  # minimum_growth_harm: 0.0  # the same for performance beyond a threshold
  # relearn_growth:         # drift that was answered and stays retrains after so much; none: never
  maximum_age: 60d          # retrain an older champion; null: never for its age
  label_silence: 7d         # alert when no label has come for so long; null: never
  # missing_flood: 0.1      # so many more missing values in a column are a data fault: alert, and
  # faults_hold_drift: true # hold back a retrain for drift until it is mended
  # learn_faults: false     # rows that only windows with a data fault hold are not learnt
  # good_days: []           # days, such as 2024-03-01, whose rows are learnt all the same
  # slices: watch           # or retrain, when one slice alone is beyond a threshold

gate:                       # a challenger must beat the champion on rows that neither has seen
  rows: {gate_rows}               # the newest labelled rows, held back from training
  minimum_rows: {minimum}         # fewer prove nothing
  confidence: 0.95          # one-sided, of the paired bootstrap
  margin: 0.0               # the gain must exceed this; negative: no worse than this
  # block:                  # none; 1d: resample whole days; let `rows` span 7 or more of them
  # resamples: 2000         # of that bootstrap
  # slice_tolerance:        # none; 0.05: no category's value may be worse by more for certain
  # slice_rows: 100         # of so many rows at least
  # refit: false            # or true: what passes learns the held-back rows too, before it serves

rollout:                    # how what passes the gate comes to serve; worse: rolled back
  # stages: []              # promoted at once; standard: as shadow, then for 5, 25, 50 % of callers
  #                         # or a list of {{share: 0.1, minimum: 10m, maximum: 1h, requests: 200}},
  #                         # where {{mode: shadow}} answers nobody and is compared
  # bake: 1h                # then the one before is kept warm, and guards roll back
  # guards: {{}}              # worse for certain by error_rate: 0.01, latency_p95_ratio: 1.5,
  #                         # disagreement: 0.5, prediction_drift: 0.25, metric: 0.05 (loss a row)
  # level: 0.05             # probability of rolling back one that is within all of them
  # compared_per_second: 200  # rows that a second version answers too, at most

# approval: none            # or required: what passed its gate answers no caller before a person
                            # has said yes (`everfit approve`, or the tag everfit.approval on
                            # MLflow's page); a shadow stage runs meanwhile, no canary does
# approval_within: 7d       # after that nobody can say yes to it any more

serving:
  host: 127.0.0.1
  port: 8080
  workers: 1
  # poll_seconds: 1.0       # how soon a new champion answers
  # maximum_body_mb: 8
  # maximum_rows: 10000     # of one request
  # maximum_text: 100000    # characters of one text
  # maximum_waiting: 1000   # requests in a worker; further ones are turned away with 503
  # timeout_seconds: 30     # that a client has to send a body, and that a request may wait
  # flush_seconds: 0.2      # predictions reach the store after so long at most
  # sample: 1.0             # share of the predictions that is recorded, chosen by their id
  # spool_mb: 512           # predictions on disk while the store is down; the oldest go first
  # hang_seconds: 20        # a worker that stands still so long is started anew
  # load_seconds: 300       # a version that takes longer to load and check is given up for an hour
  # memory_mb:              # none; a worker that has grown beyond this is replaced
  # grpc_port:              # the Open Inference Protocol over gRPC too; needs everfit[grpc]
  # otel_endpoint:          # where traces are sent, http://...; needs everfit[otel]

telemetry:
  # keep:                   # none; 400d: each check purges older predictions and their labels
  never_store: []           # inputs that are never recorded, such as personal data
  # hash_ids: false         # store ids as a hash, with the key in EVERFIT_ID_KEY

engines:                    # databases in the place of files under runs; a URL holds no password:
                            # that is in PGPASSWORD or ~/.pgpass, or the whole URL is in
                            # EVERFIT_TELEMETRY_URL, EVERFIT_REGISTRY_URL, EVERFIT_DATA_URL
  # telemetry:              # none; postgresql://user@host/database, a schema for each model
  # registry:               # none; the same for MLflow's tables, or an MLflow server, http://...
  # artifacts:              # none; folder of registered files, which all machines must see

schedule:
  cron: "0 6 * * *"         # of the checks: minute, hour, day, month, weekday; UTC
  # safety: "0 4 * * 0"     # retrains what was asked for and never begun, and a model that no check
                            # has looked at for a week; or never
  # report: "0 7 * * 1"     # the week's digest; or never
  # reconcile: "*/5 * * * *"  # looks for what broke off or was lost; or never

disk:                       # people are told when less is free under runs/{name}
  # free_share: 0.05        # of the disk
  # free_mb: 500

# notify: []                # who is told of what, such as
# - {{on: [decision, promoted, refused, rolled back], to: {{slack: EVERFIT_SLACK_URL}}}}
# - {{on: [approval needed, approved, rejected], to: {{email: [me@example.com]}}}}
# - {{on: [no labels, watch late, disk low, alias moved], to: {{webhook: EVERFIT_ALERT_URL}}}}
                            # a URL is a secret: named is the environment variable that holds it;
                            # mail goes by the server in EVERFIT_SMTP_URL
""")


def _aligned(text: str) -> str:
    """Comments behind values start in one column where they can."""
    lines = []
    for line in text.splitlines():
        value, mark, comment = line.rpartition("  # ")
        behind = mark and value.strip()
        lines.append(f"{value.rstrip():<26}  # {comment.strip()}" if behind else line)
    return "\n".join(lines) + "\n"


def _space_lines(names: Sequence[str]) -> str:
    """An example of each family's parameters with their ranges, commented out."""
    from models import families

    lines = []
    for name in names:
        for parameter in families.get(name).space.parameters:
            fields = {
                key: getattr(parameter, key)
                for key in ("low", "high", "log", "values", "choices")
                if hasattr(parameter, key)
            }
            fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
            lines.append(f"    # {name}.{parameter.name}: {_yaml(fields)}")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    """A value in YAML's flow style, quoted where it must be.

    >>> _yaml(["no", "yes", 1]), _yaml("a: b")
    ("['no', 'yes', 1]", "'a: b'")
    """
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")
