"""A student's loss: nothing where it says what its teacher says, and offline as online."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.distillation.cache_spec import CacheSpec
from compress.distillation.cache_teacher import cache_teacher
from compress.distillation.gradual import Gates, GradualSpec
from compress.distillation.identity import fingerprint, tokenizer_hash
from compress.distillation.layer_map import layer_pairs
from compress.distillation.learner import Learner
from compress.distillation.losses import hidden_error, logit_divergence
from compress.distillation.objective import Objective
from compress.distillation.teacher_cache import CacheMetadata, Identity, TeacherCache, open_cache
from compress.distillation.teacher_outputs import CachedTeacher, LiveTeacher
from compress.errors import (
    DataError,
    RecipeError,
    SpecError,
    TrainingError,
    UnsupportedArchitectureError,
)
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.plan.cost import CostModel
from compress.plan.plan import Plan
from compress.search.depth import drop_layers
from compress.training.dropout import dropout_of
from tests.families import FAMILIES, batch, tiny, uneven
from tests.tokenizer import tiny_tokenizer

EVERYTHING = Objective(
    logits=1.0, hidden=1.0, embeddings=1.0, attention=1.0, relations=1.0, layers="uniform"
)


def lesson(learner: Learner, data: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """What the learner finds in a batch, in training but for dropout."""
    with dropout_of(learner, 0.0):
        found: dict[str, Any] = learner.train()(**(data or batch()))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_the_teacher_has_nothing_to_learn(family: str) -> None:
    teacher = tiny(family)
    student = copy.deepcopy(teacher)
    projections = family not in ("xlnet", "deberta")
    objective = EVERYTHING
    if not projections:
        objective = replace(EVERYTHING, attention=0.0, relations=0.0)
    elif bind(teacher).shape.queries_per_kv_head > 1:
        objective = replace(EVERYTHING, attention=0.0)
    found = lesson(Learner(student, objective, LiveTeacher(teacher, projections=projections)))
    assert set(found["parts"]) >= {"logits", "hidden", "embeddings"}
    for name, value in found["parts"].items():
        assert float(value) == pytest.approx(0.0, abs=1e-6), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_weighted_sum_of_its_formulas(family: str) -> None:
    teacher, student, data = tiny(family), tiny(family, seed=1), batch()
    pairs = [(1, 1), (2, 2)]  # of some families the last that transformers tells is normed
    objective = Objective(logits=0.5, hidden=2.0, layers=pairs, temperature=3.0)
    learner = Learner(student, objective, LiveTeacher(teacher))
    loss = lesson(learner, data)["loss"].item()
    inputs = {k: v for k, v in data.items() if k != "labels"}
    with torch.no_grad():
        here, there = (m.eval()(**inputs, output_hidden_states=True) for m in (student, teacher))
    errors = [
        hidden_error(here.hidden_states[a], there.hidden_states[b], data["attention_mask"]).mean()
        for a, b in pairs
    ]
    expected = 0.5 * logit_divergence(here.logits, there.logits, 3.0).mean()
    expected += 2.0 * torch.stack(errors).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "albert"])
def test_layers_below_a_dropped_one_have_nothing_to_learn(family: str) -> None:
    teacher = tiny(family)
    student = copy.deepcopy(teacher)
    plan = drop_layers(bind(student), 1, "top")
    apply_(student, plan)
    learner = Learner(student, Objective(logits=0.0), LiveTeacher(teacher), plan)
    assert lesson(learner)["loss"].item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert", "mpnet", "distilbert"])
def test_pruned_heads_are_paired_by_the_plan(family: str) -> None:
    teacher = tiny(family)
    student = copy.deepcopy(teacher)
    plan = uneven(bind(teacher).shape)
    first = replace(plan.layers[0], neurons=Plan.full(plan.shape).layers[0].neurons)
    plan = replace(plan, layers=(first, *plan.layers[1:]))
    apply_(student, plan)
    objective = Objective(logits=0.0, hidden=0.0, attention=1.0, layers=[(1, 1)])
    learner = Learner(student, objective, LiveTeacher(teacher, projections=True), plan)
    # the first layer hears the same embeddings: its surviving heads look where they did
    assert lesson(learner)["loss"].item() == pytest.approx(0.0, abs=1e-6)


def test_the_nearest_layer_of_a_copy_is_its_own() -> None:
    teacher = tiny("bert", num_hidden_layers=4)
    student = copy.deepcopy(teacher)
    learner = Learner(student, Objective(logits=0.0, layers="nearest"), LiveTeacher(teacher))
    assert lesson(learner)["loss"].item() == pytest.approx(0.0, abs=1e-6)


def test_a_student_of_another_width_learns_through_a_projection() -> None:
    teacher, student = tiny("bert"), tiny("bert", hidden_size=16, num_hidden_layers=2)
    objective = Objective(embeddings=1.0, relations=1.0, layers="uniform")
    learner = Learner(student, objective, LiveTeacher(teacher, projections=True))
    assert {n.split(".")[1] for n, _ in learner.named_parameters() if "projections" in n} == {
        "hidden",
        "embeddings",
    }
    lesson(learner)["loss"].backward()
    assert all(p.grad is not None for p in learner.projections.parameters())


def test_labels_need_no_teacher() -> None:
    student, data = tiny("bert"), batch()
    objective = Objective(labels=1.0, logits=0.0, hidden=0.0)
    loss = lesson(Learner(student, objective), data)["loss"]
    inputs = {k: v for k, v in data.items() if k != "labels"}
    expected = nn.functional.cross_entropy(student.eval()(**inputs).logits, data["labels"])
    torch.testing.assert_close(loss, expected)


def test_heads_of_another_width_are_paired_and_related() -> None:
    teacher = tiny("bert", hidden_size=64)
    student = tiny("bert", seed=1)  # as many heads, half as wide
    objective = Objective(hidden=0.0, attention=1.0, relations=1.0, layers="uniform")
    found = lesson(Learner(student, objective, LiveTeacher(teacher, projections=True)))
    assert set(found["parts"]) == {"logits", "attention", "relations"}
    wrong = replace(objective, relation_heads=5)
    with pytest.raises(RecipeError, match="`relation_heads` must divide"):
        lesson(Learner(student, wrong, LiveTeacher(teacher, projections=True)))


def test_other_heads_learn_from_hidden_states_alone() -> None:
    teacher, student = (tiny("bert", seed=s, head="token") for s in (0, 1))
    with pytest.raises(RecipeError, match="sequence classifiers"):
        Learner(student, Objective(layers="uniform"), LiveTeacher(teacher))
    hidden = Objective(logits=0.0, layers="uniform")
    data = {k: v for k, v in batch().items() if k != "labels"}
    assert lesson(Learner(student, hidden, LiveTeacher(teacher)), data)["loss"].item() > 0


@pytest.mark.parametrize(
    ("objective", "family", "error"),
    [
        (Objective(relations=1.0, layers="uniform"), "xlnet", UnsupportedArchitectureError),
        (Objective(attention=1.0, layers="uniform"), "deberta", UnsupportedArchitectureError),
        (Objective(attention=1.0, layers="uniform"), "eurobert", RecipeError),
        (Objective(layers="source"), "bert", RecipeError),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    objective: Objective, family: str, error: type[Exception]
) -> None:
    teacher, student = tiny(family), tiny(family, seed=1)
    with pytest.raises(error):
        lesson(Learner(student, objective, LiveTeacher(teacher, projections=True)))


def test_an_objective_that_weighs_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="all weights are 0"):
        Objective(logits=0.0, hidden=0.0)
    with pytest.raises(SpecError, match=r"Objective\.hidden"):
        Objective(hidden=-1.0)


# The store.


def examples(count: int = 40) -> list[dict[str, Any]]:
    """Tokenised texts of many lengths."""
    tokenizer = tiny_tokenizer()
    texts = [" ".join(f"w{(7 * i + j) % 94}" for j in range(1 + i % 13)) for i in range(count)]
    encoded = tokenizer(texts)
    return [{name: encoded[name][i] for name in encoded} for i in range(count)]


def padded(rows: list[dict[str, Any]], family: str = "bert") -> dict[str, Tensor]:
    """A batch; XLNet, whose head reads the last token, is padded on the left."""
    side = "left" if family == "xlnet" else "right"
    return dict(tiny_tokenizer().pad(rows, return_tensors="pt", padding_side=side))


def stored(
    teacher: PreTrainedModel, folder: Path, spec: CacheSpec, rows: list[dict[str, Any]]
) -> TeacherCache:
    shape = bind(teacher).shape
    layers = sum(shape.uses)
    facts = CacheMetadata(
        identity=Identity(
            teacher=fingerprint(teacher), tokenizer=tokenizer_hash(tiny_tokenizer()), data="d"
        ),
        spec=spec,
        pairs=spec.pairs(layer_pairs("uniform", layers, layers)),
        n_student=layers,
        n_layers=layers,
        hidden_size=shape.hidden_size,
        n_labels=3,
        rows=len(rows),
        longest=max(len(row["input_ids"]) for row in rows),
    )
    folder.mkdir(exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left" if shape.model_type == "xlnet" else "right"
    cache_teacher(teacher, tokenizer, rows, facts, folder)
    return open_cache(folder)


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "xlnet", "modernbert", "deberta"])
@pytest.mark.parametrize("depth", [1, None])
def test_offline_with_all_of_a_layer_is_online(
    family: str, depth: int | None, tmp_path: Path
) -> None:
    teacher, student = tiny(family), tiny(family, seed=1)
    rows = examples()
    store = stored(
        teacher, tmp_path / "s", CacheSpec(depth=depth, max_tokens=None, feature_fraction=1.0), rows
    )
    objective = Objective(layers=store.metadata.pairs)
    online = Learner(student, objective, LiveTeacher(teacher))
    offline = Learner(student, objective, CachedTeacher(store.metadata))
    for chosen in ([3, 11, 25], [39, 0]):
        data = padded([rows[i] for i in chosen], family)
        heard = lesson(online, dict(data))["loss"].item()
        read = lesson(offline, data | store.stored_outputs(chosen))["loss"].item()
        assert read == pytest.approx(heard, rel=1e-3)


@pytest.mark.parametrize("features", ["magnitude", "random", "uniform"])
def test_a_store_keeps_the_chosen_values_and_no_more(features: Any, tmp_path: Path) -> None:
    teacher, rows = tiny("bert"), examples()
    spec = CacheSpec(depth=1, max_tokens=4, feature_fraction=0.25, features=features)
    store = stored(teacher, tmp_path / "s", spec, rows)
    kept = store.kept(12, 0)
    assert kept.values.shape == (4, 8)
    data = padded([rows[12]])
    with torch.no_grad():
        state = teacher(**data, output_hidden_states=True).hidden_states[-1][0]
    for token, indices, values in zip(kept.tokens, kept.feature_indices, kept.values, strict=True):
        expected = state[int(token)][torch.tensor(indices.astype(int))]
        torch.testing.assert_close(torch.tensor(values).float(), expected, rtol=1e-3, atol=1e-3)
    promised = store.metadata.n_bytes([len(row["input_ids"]) for row in rows])
    on_disk = sum(p.stat().st_size for p in store.folder.glob("*.arrow"))
    assert promised == pytest.approx(on_disk, rel=0.6)  # these are 40 tiny rows beside a header


def test_separators_are_kept_last(tmp_path: Path) -> None:
    rows = examples()
    store = stored(
        tiny("bert"), tmp_path / "s", CacheSpec(max_tokens=6, feature_fraction=0.1), rows
    )
    for i, row in enumerate(rows):
        if len(row["input_ids"]) > 6:
            assert len(row["input_ids"]) - 1 not in store.kept(i, 0).tokens.tolist()


def test_a_store_refuses_other_data_and_tokenizers(tmp_path: Path) -> None:
    store = stored(tiny("bert"), tmp_path / "s", CacheSpec(), examples())
    store.check(data="d", tokenizer=tokenizer_hash(tiny_tokenizer()))
    with pytest.raises(DataError, match="of this data"):
        store.check(data="other")


def test_a_killed_store_goes_on_where_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("compress.distillation.cache_teacher.SHARD", 16)
    monkeypatch.setattr("compress.distillation.teacher_cache.SHARD", 16)
    teacher, rows = tiny("bert"), examples()
    whole = stored(teacher, tmp_path / "whole", CacheSpec(), rows)
    broken = tmp_path / "broken"
    stored(teacher, broken, CacheSpec(), rows)
    (broken / "store.json").unlink()
    (broken / "rows-00001.arrow").unlink()
    first = (broken / "rows-00000.arrow").stat().st_mtime_ns
    again = stored(teacher, broken, CacheSpec(), rows)
    assert (broken / "rows-00000.arrow").stat().st_mtime_ns == first
    for name, tensor in whole.stored_outputs(range(40)).items():
        assert torch.equal(tensor, again.stored_outputs(range(40))[name])


def test_a_store_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    store = stored(tiny("bert"), tmp_path / "s", CacheSpec(), examples())
    (store.folder / "rows-00000.arrow").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"rows-00000\.arrow"):
        open_cache(store.folder)
    with pytest.raises(DataError, match="must be a folder"):
        open_cache(tmp_path / "none")


def test_a_store_without_room_is_refused_before_any_work(tmp_path: Path, monkeypatch: Any) -> None:
    usage = type("Usage", (), {"free": 100})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"needs [\d,]+ bytes, found 100 free"):
        stored(tiny("bert"), tmp_path / "s", CacheSpec(), examples())


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    teacher = tiny("bert")
    with torch.no_grad():
        teacher.classifier.bias.fill_(1e6)
    with pytest.raises(TrainingError, match="float16"):
        stored(teacher, tmp_path / "s", CacheSpec(), examples())


def test_a_store_cannot_teach_what_it_does_not_keep(tmp_path: Path) -> None:
    rows = examples()
    store = stored(tiny("bert"), tmp_path / "s", CacheSpec(), rows)
    data = padded(rows[:2]) | store.stored_outputs([0, 1])
    with pytest.raises(RecipeError, match="must keep layer 1"):
        lesson(
            Learner(tiny("bert"), Objective(layers=[(1, 1)]), CachedTeacher(store.metadata)),
            dict(data),
        )
    relations = Objective(relations=1.0, layers=[(3, 3)])
    with pytest.raises(RecipeError, match="keeps logits and hidden states"):
        lesson(Learner(tiny("bert"), relations, CachedTeacher(store.metadata)), dict(data))


def test_a_multi_label_student_learns_each_label_by_itself() -> None:
    multi = {"problem_type": "multi_label_classification"}
    teacher, student = tiny("bert", **multi), tiny("bert", **multi)
    student.classifier.bias.data += 4.0  # a softmax would not see it
    module = Learner(student, Objective(hidden=0.0), LiveTeacher(teacher))
    assert lesson(module)["loss"] > 0.1


def test_students_and_teachers_that_read_logits_differently_are_refused() -> None:
    teacher = tiny("bert", problem_type="multi_label_classification")
    with pytest.raises(RecipeError, match="found categorical and bernoulli"):
        Learner(tiny("bert"), Objective(), LiveTeacher(teacher))
    with pytest.raises(RecipeError, match="found a multi-label classifier"):
        Learner(teacher, Objective(labels=1.0), LiveTeacher(teacher))


def test_a_copy_of_a_student_hears_the_same_gates() -> None:
    """FSDP trains a copy of the module that it is given."""
    student = tiny("bert", seed=1)
    gates = Gates(bind(student), GradualSpec(share=0.4, cost=CostModel(unit="macs", sequence=12)))
    module = Learner(student, Objective(hidden=0.0), LiveTeacher(tiny("bert")), gates=gates)
    lesson(copy.deepcopy(module))
    gates.update()
    assert all(float(part.sum()) > 0 for part in gates.state()["importance"])
