"""Weights removed, students, eight bits, and the files of what is left."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from models import families
from models.compress import distil, grid, packed, perceptron, texts, units
from models.compress.pace import Pace
from models.compress.pruner import Pruner, slices, weights
from models.encoding import Encoded
from models.errors import BundleFault
from models.families import TrainingData
from models.families.network import Net
from models.onnx import export

MLP = families.get("mlp")
FULL = {**MLP.default, "width": 64, "epochs": 6, "dropout": 0.0, "learning_rate": 1e-2}


def data(n: int = 700, seed: int = 0) -> TrainingData:
    """Two numbers and a category tell the class; four numbers say nothing."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 6)).astype(np.float32)
    numbers[::17, 5] = np.nan
    codes = rng.integers(1, 9, (n, 2))
    score = numbers[:, 0] + np.abs(numbers[:, 1]) - 0.8 + np.where(codes[:, 0] > 4, 1.0, -1.0)
    return TrainingData(Encoded(numbers, codes), (score > 0).astype(np.int64), 2, (9, 9))


def accuracy(fitted, table: TrainingData) -> float:
    return float((fitted.predict_proba(table.encoded).argmax(1) == table.y).mean())


@pytest.fixture(scope="module")
def models():
    """One model for each choice, fitted once."""
    table = data()
    chosen = {
        "none": {},
        "sparse": {"sparsity": 0.9, "precision": "float32"},
        "units": {"sparsity": 0.85, "precision": "int8"},
        "student": {"student": 16, "temperature": 2.0, "precision": "int8"},
    }
    fitted = {}
    for kind, more in chosen.items():
        params = {**FULL, "compress": kind, **more}
        MLP.space.validate(params)
        fitted[kind] = MLP.fit(table, params, seed=1)
    return fitted


def test_small_models_answer_nearly_as_well(models) -> None:
    fresh = data(seed=5)
    full = accuracy(models["none"], fresh)
    assert full > 0.9
    for kind in ("sparse", "units", "student"):
        assert accuracy(models[kind], fresh) > full - 0.03, kind


def test_as_many_weights_are_gone_as_was_asked(models) -> None:
    _, total = units.left(models["none"].module)
    for kind, share in (("sparse", 0.9), ("units", 0.85)):
        kept, _ = units.left(models[kind].module)
        assert share - 0.01 < 1 - kept / total < share + 0.05, kind


def test_units_that_went_make_the_layers_narrower(models) -> None:
    wide, narrow = units.widths(models["none"].module), units.widths(models["units"].module)
    assert wide == (64, 64)
    assert all(after < before / 1.5 for before, after in zip(wide, narrow, strict=True))


def test_the_threshold_is_one_for_the_whole_network() -> None:
    """A layer whose weights matter little loses more of them than one whose weights matter."""
    matrices = [nn.Parameter(torch.randn(30, 30, generator=g)) for g in _generators(2)]
    pruner = Pruner([weights(m) for m in matrices], target=0.5, steps=400)
    for _ in range(400):
        matrices[0].grad = torch.full((30, 30), 1.0)
        matrices[1].grad = torch.full((30, 30), 0.05)
        pruner.step(1.0)
    assert pruner.finish() == pytest.approx(0.5, abs=0.01)
    kept = [float((m != 0).float().mean()) for m in matrices]
    assert kept[0] > 0.8
    assert 0.01 <= kept[1] < 0.2


def _generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(n)]


def test_slices_go_from_all_their_matrices_together() -> None:
    before, after = nn.Parameter(torch.ones(10, 4)), nn.Parameter(torch.ones(3, 10))
    pruner = Pruner([slices((before, 0), (after, 1))], target=0.7, steps=20)
    size = torch.arange(1.0, 11.0)
    for _ in range(20):
        before.grad, after.grad = size[:, None] * torch.ones(10, 4), size * torch.ones(3, 10)
        pruner.step(1.0)
    pruner.finish()
    gone = (before == 0).all(1)
    assert torch.equal(gone, (after == 0).all(0))
    assert gone.tolist() == [True] * 7 + [False] * 3


def test_the_calmer_the_training_the_more_is_gone() -> None:
    def shares(gradients) -> list[float]:
        pace = Pace(0.9, 100)
        return [pace.look(g, g) for g in gradients]

    loud, calm = shares([1.0] * 100), shares(np.geomspace(1.0, 0.01, 100))
    assert all(a <= b for a, b in pairwise(calm))
    assert calm[40] > 0.6
    assert loud[40] < 0.2
    assert loud[-1] == calm[-1] == 0.9  # the target is reached in any case
    damage = shares([1.0] * 5 + [0.2] * 20 + [5.0] * 75)  # what was needed went: it slows down
    steady = shares([1.0] * 5 + [0.2] * 95)
    assert damage[24] == steady[24]
    assert damage[32] - damage[28] < (steady[32] - steady[28]) / 3


def test_compacting_changes_no_answer() -> None:
    net = Net(data(), width=32, depth=3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for bias in net.biases:
            bias.normal_(generator=torch.Generator().manual_seed(1))
        net.weights[0][:7] = 0.0  # constants
        net.weights[2][:, 20:] = 0.0  # units that lead nowhere
        net.weights[1][3] = 0.0
    small = units.compacted(net)
    assert units.widths(small) == (25, 19, 32)
    rows = data(50, seed=3).encoded
    given = torch.from_numpy(rows.numbers), torch.from_numpy(rows.codes)
    torch.testing.assert_close(small(*given), net(*given), atol=1e-6, rtol=1e-6)


def test_every_small_model_has_an_onnx_form_that_is_small_too(models) -> None:
    table = data()
    sizes = {}
    for kind, fitted in models.items():
        form = export.drawn(fitted, "mlp", 6, table.cardinality, 2)
        onnx.checker.check_model(onnx.load_model_from_string(form.model), full_check=True)
        expected = fitted.predict_proba(table.encoded)
        np.testing.assert_allclose(form.session.predict_proba(table.encoded), expected, atol=2e-6)
        sizes[kind] = len(form.model)
    assert sizes["sparse"] < sizes["none"] / 3
    assert sizes["units"] < sizes["none"] / 4
    assert sizes["student"] < sizes["none"] / 4


@pytest.mark.parametrize("kind", ["sparse", "units", "student"])
def test_saved_and_loaded_a_small_model_answers_the_same(models, kind, tmp_path: Path) -> None:
    models[kind].save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    rows = data(40, seed=9).encoded
    loaded = MLP.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(rows), models[kind].predict_proba(rows))
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again)
    first, second = (packed.read(folder / "model.npz")[0] for folder in (tmp_path, again))
    assert {n: m.nbytes for n, m in first.items()} == {n: m.nbytes for n, m in second.items()}


def test_equal_seeds_give_equal_small_models() -> None:
    table, params = data(400), {**FULL, "epochs": 3, "compress": "units", "sparsity": 0.8}
    first, again = (MLP.fit(table, {**params, "precision": "int8"}, seed=4) for _ in range(2))
    np.testing.assert_array_equal(
        first.predict_proba(table.encoded), again.predict_proba(table.encoded)
    )


@pytest.mark.parametrize("density", [0.0, 0.001, 0.1, 1.0])
@pytest.mark.parametrize("whole", [False, True])
def test_packing_keeps_every_weight(density: float, whole: bool) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(40, 97)).astype(np.float32) * (rng.random((40, 97)) < density)
    step = grid.steps(matrix) if whole else None
    if step is not None:
        matrix = grid.rounded(matrix, step)
    found = packed.pack(matrix, step)
    np.testing.assert_array_equal(found.unpacked(), matrix)
    assert found.nbytes <= matrix.size * (1 if whole else 4) + 4 * 40
    if density < 1:
        assert found.nbytes < matrix.nbytes / 4


def test_a_grid_is_off_by_half_a_step_at_most() -> None:
    matrix = np.random.default_rng(1).normal(size=(20, 50)).astype(np.float32)
    step = grid.steps(matrix)
    assert (np.abs(grid.rounded(matrix, step) - matrix) <= step * 0.501).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update({"values/weights.0": arrays["values/weights.0"][:-1]}),
        lambda arrays: arrays.update({"gaps/weights.0": arrays["gaps/weights.0"] | 255}),
        lambda arrays: arrays.update(
            shapes=np.frombuffer(json.dumps({"weights.0": [1 << 30, 9]}).encode(), np.uint8)
        ),
        lambda arrays: arrays.pop("shapes"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(models, change, tmp_path: Path) -> None:
    models["sparse"].save(tmp_path)
    path = tmp_path / "model.npz"
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(BundleFault, match="train the model anew"):
        MLP.load(tmp_path)


def test_a_pickle_in_the_file_is_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", shapes=np.array([{"weights.0": [1, 1]}], dtype=object))
    with pytest.raises(BundleFault, match="is not readable"):
        MLP.load(tmp_path)


def test_a_student_is_drawn_to_its_teacher_where_no_label_is_known() -> None:
    teacher = torch.tensor([[2.0, -2.0], [-1.0, 1.0]])
    rule = distil.loss(teacher, torch.tensor([-1, -1]), temperature=3.0)
    rows = torch.tensor([0, 1])
    assert float(rule(teacher.clone(), rows)) == pytest.approx(0.0, abs=1e-6)
    assert float(rule(-teacher, rows)) > 0.5
    labelled = distil.loss(teacher, torch.tensor([0, 1]), temperature=3.0)
    assert float(labelled(teacher.clone(), rows)) > 0


def test_a_stopped_fit_of_a_small_model_says_so() -> None:
    from models.families.base import FitTimeout

    for kind in ("sparse", "student"):
        params = {**FULL, "compress": kind, "sparsity": 0.9, "student": 8, "temperature": 1.0}
        with pytest.raises(FitTimeout):
            perceptron.fit(data(), params, seed=0, seconds=1e-6)


def test_a_bundle_of_a_small_model_is_small_and_whole(tmp_path: Path) -> None:
    """The path of a retrain: parameters of the joined space, bundle, loading in both forms."""
    import pandas as pd

    from models.bundle import Predictor
    from models.schema import Column, Schema
    from models.training import fit_bundle

    table = data(600)
    frame = pd.DataFrame(table.encoded.numbers, columns=[f"x{i}" for i in range(6)])
    frame["c"] = [f"v{code}" for code in table.encoded.codes[:, 0]]
    columns = [Column(name, "category" if name == "c" else "number") for name in frame]
    schema = Schema(tuple(columns), target="y", classes=(0, 1))
    params = {"family": "mlp", "mlp.width": 128, "mlp.epochs": 3}
    small = {"mlp.compress": "units", "mlp.sparsity": 0.9, "mlp.precision": "int8"}
    sizes = []
    for name, more in (("full", {}), ("small", small)):
        folder = tmp_path / name
        fit_bundle(frame.assign(y=table.y), schema, {**params, **more}, folder=folder, seed=0)
        found = [Predictor.load(folder, native=native) for native in (False, True)]
        assert [one.runtime for one in found] == ["onnx", "native"]
        for one in found:
            one.self_check()
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))
    assert sizes[1] < sizes[0] / 4


def test_what_was_learnt_before_models_could_be_small_is_of_whole_models() -> None:
    from models.search.memory import repaired

    before = {k: v for k, v in families.defaults(["mlp"])[0].items() if k != "mlp.compress"}
    today = repaired(before, families.space(["mlp"], shrink=True))
    assert today == {**before, "mlp.compress": "none"}


def mails(n: int = 160, seed: int = 0) -> TrainingData:
    """Texts whose class shows in a few of their words."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    said = np.array(["cheap pills now", "meeting notes soon"])
    noise = [f"word{i}" for i in range(120)]
    texts = [f"{' '.join(rng.choice(noise, 9))} {said[label]} {rng.choice(noise)}" for label in y]
    nothing = Encoded(
        np.empty((n, 0), dtype=np.float32),
        np.empty((n, 0), dtype=np.int64),
        np.array(texts, dtype=object)[:, None],
    )
    return TrainingData(nothing, y.astype(np.int64), 2, ())


@pytest.mark.parametrize(
    ("kind", "deep"),
    [("sparse", "attention"), ("units", "bag"), ("units", "conv"), ("student", "conv")],
)
def test_text_networks_are_made_smaller_too(kind: str, deep: str, tmp_path: Path) -> None:
    family = families.get("textnet")
    more = {"student": {"student": 8, "temperature": 2.0}}.get(kind, {"sparsity": 0.85})
    params = {**family.default, "deep": deep, "width": 16, "epochs": 4, "compress": kind, **more}
    params["precision"] = "int8"
    family.space.validate(params)
    table, fresh = mails(), mails(100, seed=1)
    fitted = family.fit(table, params, seed=0)
    assert accuracy(fitted, fresh) > 0.95
    arrays = fitted.net.arrays()
    if kind == "units":
        assert arrays["table"].shape[1] < 16
    if kind != "student":
        kept = sum(int((arrays[name] != 0).sum()) for name in texts.matrices(fitted.net))
        full = family.fit(table, {**params, "compress": "none", "epochs": 3}, seed=0)
        total = sum(matrix.numel() for matrix in texts.matrices(full.net).values())
        assert kept < 0.16 * total
    expected = fitted.predict_proba(fresh.encoded)
    fitted.save(tmp_path)
    loaded = family.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(fresh.encoded), expected)
    form = export.drawn(loaded, "textnet", 0, (), 2)
    np.testing.assert_allclose(form.session.predict_proba(fresh.encoded), expected, atol=5e-6)
