"""What is particular to one family; what all promise is in tests/contracts/test_families.py."""

from __future__ import annotations

import io
import json
import pickle
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_info, threadpool_limits

from models import families
from models.encoding import Encoded
from models.errors import BundleFault, DataFault, SpaceFault
from models.families import TrainingData, network
from models.families.base import FitTimeout, folded
from models.families.custom import FittedCustom
from models.families.design import Design
from models.threads import one_thread


def data(n: int = 200, seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 5, (n, 2)).astype(np.float32)
    x[::9, 1] = np.nan
    codes = rng.integers(0, 6, (n, 2))
    return TrainingData(Encoded(x, codes), (x[:, 0] > 3).astype(np.int64), 2, (6, 6))


def test_names_and_spaces_join() -> None:
    space = families.space(families.NAMES[:-1])
    assert space["family"].choices == (
        "logistic",
        "hgb",
        "forest",
        "mlp",
        "tfidf",
        "textnet",
        "sentence",
    )
    for params in families.defaults(families.NAMES[:-1]):
        space.validate(params)
        name, own = families.split(params)
        assert families.joined(name, own) == params


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: families.get("xgboost"), "a family is one of logistic, hgb, .*got 'xgboost'"),
        (lambda: families.space(["custom"]), "'custom' needs a trainer"),
        (lambda: families.split({"C": 1.0}), "names its family"),
        (lambda: families.split({"family": "hgb", "mlp.width": 3}), r"got \['mlp.width'\]"),
        (lambda: families.space(["hgb"], "nothing"), "named as module:attribute, got 'nothing'"),
        (lambda: families.space(["hgb"], "no_such_module:x"), "install it, or run from"),
        (lambda: families.space(["hgb"], "json:nothing"), "must exist"),
        (lambda: families.space(["hgb"], "json:JSONDecoder"), "a trainer has `space`"),
    ],
)
def test_a_wrong_name_says_what_to_write(call, message: str) -> None:
    with pytest.raises(SpaceFault, match=message):
        call()


def trainer(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    source = (
        "from sklearn.linear_model import LogisticRegression\n"
        "from models.space import Float, Space\n"
        "class Trainer:\n"
        "    space = Space((Float('C', 0.01, 10.0, log=True),))\n"
        "    default = {'C': 1.0}\n"
        "    def fit(self, X, y, params, seed):\n"
        f"        {body}\n"
        "trainer = Trainer()\n"
    )
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return f"{name}:trainer"


def test_a_trainer_joins_the_families_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = trainer(
        tmp_path, "return LogisticRegression(C=params['C']).fit(X, y)", monkeypatch, "mine_joins"
    )
    space = families.space(["hgb"], mine)
    assert space["family"].choices == ("hgb", "custom")
    assert "custom.C" in space
    assert families.defaults(["custom"], mine) == [{"family": "custom", "custom.C": 1.0}]


def test_a_trainer_in_the_working_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = trainer(tmp_path, "return None", monkeypatch, "mine_in_cwd")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    assert "custom.C" in families.space([], name)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "got NoneType: return the fitted estimator"),
        ("return self", "predict_proba, got Trainer"),
        (
            "return type('Own', (LogisticRegression,), {'__module__': 'own'})().fit(X, y)",
            "scikit-learn estimator, got one of own",
        ),
    ],
)
def test_a_trainer_that_returns_something_else_is_refused(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = trainer(tmp_path, body, monkeypatch, "mine_" + re.sub(r"\W", "", message))
    with pytest.raises(DataFault, match=message):
        families.get("custom", mine).fit(data(), {"C": 1.0}, seed=0)


def test_a_custom_model_with_foreign_types_cannot_be_saved(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline

    table = data()
    design = Design.fit(table, limit=50)
    pipeline = make_pipeline(FunctionTransformer(eval), LogisticRegression())
    with pytest.raises(BundleFault, match=r"may hold known types only, got .*eval"):
        FittedCustom(pipeline, design, 2).save(tmp_path)


def test_each_family_trusts_its_own_types_only(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(
        json.dumps({"k": 2, "base": [0.5, 0.5], "design": Design.fit(data(), limit=9).to_json()})
    )
    skops.io.dump(FunctionTransformer(eval), tmp_path / "model.skops")
    for name in ("logistic", "hgb", "forest", "custom"):
        with pytest.raises(BundleFault, match="may hold known types only"):
            families.get(name).load(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"no archive")
    with pytest.raises(BundleFault, match="is not readable"):
        families.get("logistic").load(tmp_path)


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def pt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = families.get("mlp")
    folder = tmp_path_factory.mktemp("pt2")
    family.fit(data(), {**family.default, "epochs": 3}, seed=0).save(folder)
    return folder / "model.pt2"


def rewritten(source: Path, target: Path, change) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for path, content in change(name, old.read(name)):
                new.writestr(path, content)
    return target


def test_the_torch_file_holds_raw_weights_and_no_pickle(pt2: Path) -> None:
    with zipfile.ZipFile(pt2) as archive:
        configs = [json.loads(archive.read(n)) for n in archive.namelist() if "_config.json" in n]
        assert configs
        assert not any(p.get("use_pickle") for c in configs for p in c["config"].values())
        names = [n for n in archive.namelist() if "sample_inputs" in n]
        assert len(names) == 1
        torch.load(io.BytesIO(archive.read(names[0])), weights_only=True)  # tensors alone


@pytest.mark.parametrize("place", ["weights", "sample inputs", "foreign", "legacy"])
def test_a_torch_file_with_a_pickle_in_it_is_refused_and_not_run(
    pt2: Path, place: str, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    plain = pickle.dumps(Bomb(mark))
    buffer = io.BytesIO()
    torch.save(Bomb(mark), buffer)

    def change(name: str, content: bytes):
        if place == "weights" and name.endswith("model_weights_config.json"):
            config = json.loads(content)
            first = next(iter(config["config"].values()))
            first["use_pickle"] = True
            yield name, json.dumps(config)
        elif {"weights": "weights/weight_0", "sample inputs": "sample_inputs"}.get(
            place, "?"
        ) in name:
            yield name, buffer.getvalue()
        else:
            yield name, content
            if name.endswith("archive_version"):
                root = name.split("/", maxsplit=1)[0]
                if place == "foreign":
                    yield f"{root}/data/extra.pkl", plain
                if place == "legacy":
                    yield f"{root}/data/weights/model.pt", buffer.getvalue()

    bad = rewritten(pt2, tmp_path / "model.pt2", change)
    with pytest.raises(BundleFault):
        network.load(bad)
    assert not mark.exists()


def test_the_same_rewriting_without_a_change_still_loads(pt2: Path, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    same = rewritten(pt2, tmp_path / "model.pt2", lambda name, content: [(name, content)])
    encoded = data().encoded
    wanted, got = (families.get("mlp").load(p.parent).predict_proba(encoded) for p in (pt2, same))
    np.testing.assert_array_equal(wanted, got)


def test_the_network_trains_an_embedding_for_unknown_categories() -> None:
    """Unknown categories are shown in training, so they get about the base rate."""
    rng = np.random.default_rng(0)
    codes = rng.integers(2, 4, (2_000, 1))
    table = TrainingData(
        Encoded(np.empty((2_000, 0), dtype=np.float32), codes),
        (codes[:, 0] == 2).astype(np.int64),
        2,
        (4,),
    )
    family = families.get("mlp")
    fitted = family.fit(table, {**family.default, "epochs": 8}, seed=0)
    proba = fitted.predict_proba(
        Encoded(np.empty((3, 0), dtype=np.float32), np.array([[2], [3], [0]]))
    )
    assert proba[0, 1] > 0.95
    assert proba[1, 1] < 0.05
    assert 0.2 < proba[2, 1] < 0.8


@pytest.mark.parametrize("name", ["mlp", "forest"])
def test_a_fit_stops_when_its_time_is_up(name: str) -> None:
    family = families.get(name)
    with pytest.raises(FitTimeout, match="a fit may take 1e-06 s"):
        family.fit(data(), family.default, seed=0, seconds=1e-6)


def test_logistic_answers_as_scikit_learn_does() -> None:
    table = data()
    fitted = families.get("logistic").fit(table, {"C": 0.5, "class_weight": "none"}, seed=0)
    expected = fitted.model.predict_proba(fitted.design.dense(table.encoded))
    np.testing.assert_allclose(fitted.predict_proba(table.encoded), expected, atol=1e-12)


def test_class_weights_raise_the_rare_class() -> None:
    table = data()
    y = table.y.copy()
    y[np.flatnonzero(y)[10:]] = 0  # ten positives left
    rare = TrainingData(table.encoded, y, 2, table.cardinality)
    family = families.get("logistic")
    means = [
        family.fit(rare, {"C": 1.0, "class_weight": w}, seed=0).predict_proba(rare.encoded)[:, 1]
        for w in ("none", "balanced")
    ]
    assert means[1].mean() > 3 * means[0].mean()


def test_a_forest_is_never_quite_sure() -> None:
    family = families.get("forest")
    fitted = family.fit(data(), {**family.default, "min_samples_leaf": 1}, seed=0)
    assert fitted.predict_proba(data().encoded).min() > 0


def test_the_design_standardises_marks_gaps_and_one_hots() -> None:
    table = data()
    design = Design.fit(table, limit=4)
    X = design.dense(table.encoded)
    assert X.shape == (200, design.width) == (200, 2 + 1 + 4 + 4)
    known = ~np.isnan(table.encoded.numbers)
    np.testing.assert_allclose(X[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(X[:, 0].std(), 1, atol=1e-6)
    np.testing.assert_array_equal(X[:, 2], ~known[:, 1])
    assert (X[~known[:, 1], 1] == 0).all()
    np.testing.assert_array_equal(X[:, 3:7].argmax(1), folded(table.encoded.codes[:, 0], 4))
    np.testing.assert_array_equal(X[:, 3:7].sum(1), 1)
    np.testing.assert_array_equal(design.sparse(table.encoded).toarray(), X)
    coef, intercept = np.random.default_rng(0).normal(size=(3, design.width)), np.arange(3.0)
    np.testing.assert_allclose(
        design.scores(table.encoded, coef, intercept), X @ coef.T + intercept
    )
    again = Design.from_json(json.loads(json.dumps(design.to_json())))
    np.testing.assert_array_equal(again.dense(table.encoded), X)


def test_an_outlier_is_cut_and_a_constant_column_is_harmless() -> None:
    x = np.c_[np.r_[1e30, np.zeros(199)], np.full(200, 7.0)].astype(np.float32)
    codes = np.zeros((200, 0), dtype=np.int64)
    table = TrainingData(Encoded(x, codes), np.arange(200) % 2, 2, ())
    X = Design.fit(table, limit=9).dense(table.encoded)
    assert np.isfinite(X).all()
    assert np.abs(X).max() <= 10
    assert (X[:, 1] == 0).all()


def test_threads_are_one_inside_and_given_back() -> None:
    def counts() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info()]

    def visit() -> list[int]:
        before = (torch.get_num_threads(), counts())
        with one_thread():
            with one_thread():
                assert (torch.get_num_threads(), set(counts())) == (1, {1})
            assert (torch.get_num_threads(), set(counts())) == (1, {1})
        assert (torch.get_num_threads(), counts()) == before
        return before[1]

    torch.set_num_threads(2)
    try:
        with threadpool_limits(2):
            assert max(visit()) == 2
    finally:
        torch.set_num_threads(1)


def test_torch_has_one_thread_in_a_new_thread_too() -> None:
    """torch sets its count at its first use in a thread, which must not come after the limit."""

    def count() -> tuple[int, int]:
        with one_thread():
            torch.ones(100_000).sum()
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(2) as pool:
            assert set(pool.map(lambda _: count(), range(4))) == {(1, 2)}
    finally:
        torch.set_num_threads(1)
