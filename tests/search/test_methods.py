from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from contexts import Listener

import fastglt
from fastglt import scores
from fastglt.allocation import live_shapes
from fastglt.errors import BudgetError, InputError, ModelError, NonFiniteLossError, UnknownNameError
from fastglt.gating import channel_groups, edge_gradient, unit_gates
from fastglt.masks import EdgeGroups, EdgeMask, num_removed
from fastglt.search.base import (
    SearchContext,
    SearchMethod,
    get_method,
    register,
)
from fastglt.search.edge_scores import EDGE_SCORES, Graph, edge_scores
from fastglt.search.presets import resolve_settings
from fastglt.search.run import GATE_FLOOR, cut, denoise
from fastglt.settings import EDGE_SCORES as SCORE_NAMES
from fastglt.settings import TRAINED_GATE
from fastglt.training.inputs import with_sparse_inputs
from fastglt.training.loop import clone_state
from fastglt.training.task import ADJACENCY
from fastglt.training.tasks import LinkPrediction, NodeClassification
from fastglt.training.teacher import Objective, Teacher
from helpers import PRUNING_METHODS, TINY, build, graph, states_equal, tensors_of, with_edges
from training.test_link_prediction import _links


def _context(data=None, model="gcn", pretrained=False, objective=None, **settings):
    data = data if data is not None else graph()
    chosen = TINY | {"edge_sparsity": 0.29, "weight_sparsity": 0.8} | settings
    return SearchContext(
        build(model, data),
        data,
        EdgeGroups.of(data),
        objective or Objective(NodeClassification()),
        resolve_settings(chosen),
        pretrained,
        torch.Generator().manual_seed(chosen.get("seed", 0)),
        Listener(),
    )


def _search(method, **more):
    context = _context(**more)
    return context, get_method(method).search(context)


@pytest.mark.parametrize("method", PRUNING_METHODS)
@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("model", ["gcn", "sage", "gin", "gat", "weighted", "plain"])
def test_masks_have_exactly_the_asked_counts(method, preset, model):
    context, result = _search(method, preset=preset, model=model)
    groups = context.groups.num_groups
    assert result.edge_mask.num_kept == groups - num_removed(groups, 0.29)
    weights = result.weight_mask.num_weights
    assert result.weight_mask.num_kept == weights - num_removed(weights, 0.8)
    assert all(keep.any() for keep in result.weight_mask.values())
    assert set(result.state) == set(context.model.state_dict())


@pytest.mark.parametrize("method", ["fastglt", "one-shot"])
@pytest.mark.parametrize("edge_score", [*EDGE_SCORES, "divergence+degree", TRAINED_GATE])
@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_every_edge_score_gives_exact_counts_and_its_own_choice(method, edge_score, model):
    context, result = _search(method, edge_score=edge_score, model=model)
    groups = context.groups.num_groups
    assert result.edge_mask.num_kept == groups - num_removed(groups, 0.29)
    other = "unit-gate" if edge_score != "unit-gate" else "trained-gate"
    assert not torch.equal(
        result.edge_mask.keep, _search(method, edge_score=other, model=model)[1].edge_mask.keep
    )


@pytest.mark.parametrize("method", ["fastglt", "one-shot"])
def test_the_state_goes_with_the_masks(method):
    _, result = _search(method)
    for name, keep in result.weight_mask.items():
        assert torch.count_nonzero(result.state[name][~keep]) == 0


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_the_graph_is_not_changed_and_the_global_random_state_neither(method):
    context = _context()
    before, state = tensors_of(context.data), torch.get_rng_state()
    get_method(method).search(context)
    assert states_equal(before, tensors_of(context.data))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("method", "pretrained", "epochs"),
    [
        ("fastglt", False, 8),
        ("fastglt", True, 6),
        ("one-shot", False, 2),
        ("one-shot", True, 0),
        ("random", False, 0),
    ],
)
def test_the_reported_epochs_are_the_steps_taken(method, pretrained, epochs):
    context, result = _search(method, pretrained=pretrained)
    assert result.epochs == epochs == len(context.callback.steps)


def test_epochs_are_steps_by_the_batches_of_an_epoch():
    task = LinkPrediction(batch_size=50)
    data = task.prepare(_links())
    assert task.num_batches(data) == 3
    context, result = _search(
        "fastglt", data=data, objective=Objective(task), denoise_steps=7, alpha=0.1
    )
    assert result.history[-1]["edges_swapped"] == result.history[-1]["weights_swapped"] == 0
    assert result.epochs == context.settings.pretrain_epochs + 6 / 3  # no swaps are left


def test_phases_are_announced_and_ended():
    context, result = _search("fastglt")
    assert context.callback.phases == [
        ("pretrain", 2),
        ("pretrain", "end"),
        ("denoise", 6),
        ("denoise", "end"),
    ]
    evaluated = [metric for metric in context.callback.metrics if metric is not None]
    assert len(evaluated) == 3  # every due denoising step; pre-training has no use for it
    assert result.metrics["best_search_step"] in (2, 4, 6)
    assert [event["step"] for event in result.history] == [2, 4]


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_weight_decay_falls_after_the_cut(power):
    context = _context(weight_decay=0.1, decay_power=power)
    run = cut(context, steps=4)
    expected = context.settings.weight_decay_at(1 - context.settings.weight_sparsity)
    assert run.optimizer.param_groups[0]["weight_decay"] == expected
    assert (expected < 0.1) == (power > 0)


def test_weight_decay_is_lower_under_a_teacher():
    context = _context(weight_decay=0.1, decay_power=0.0, teacher_decay=0.5)
    guided = replace(context, labelled=0.04)
    assert cut(guided, steps=4).optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.02)
    for method in ("early-bird", "ugs", "teddy"):
        plain, lower = (
            get_method(method).search(replace(start, model=build("gcn", start.data)))
            for start in (context, guided)
        )
        assert not states_equal(plain.state, lower.state)


def test_the_learning_rate_changes_with_the_cut_also_that_of_gates():
    context = _context(lr=0.01, weight_sparsity=0.75, lr_power=0.5, edge_score="trained-gate")
    run = cut(context, steps=4)
    assert [group["lr"] for group in run.optimizer.param_groups] == [pytest.approx(0.02)] * 2


def test_denoising_stops_where_swaps_no_longer_help():
    class Falling(NodeClassification):
        values = iter(range(100, 0, -1))

        def metric(self, out, data, split):
            return float(next(self.values))

    context = _context(
        objective=Objective(Falling()), denoise_steps=40, interval=2, denoise_patience=3
    )
    run = cut(context, steps=40)
    denoise(run)
    assert run.denoiser.best().step == 2  # nothing was better than the first
    assert run.denoiser.num_steps == 8  # steps 4, 6 and 8 were not
    assert context.callback.phases[-1] == ("denoise", "end")


def test_dropout_is_scaled_while_denoising_and_not_before():
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(12, 30)
            self.out = torch.nn.Linear(30, 3)

        def forward(self, x, edge_index):
            x = torch.nn.functional.dropout(x, p=0.8, training=self.training)
            if self.training:
                seen.append(float((x == 0).float().mean()))
            return self.out(self.lin(x))

    context = replace(
        _context(edge_sparsity=0.0, weight_sparsity=0.75, dropout_power=0.5), model=Watching()
    )
    run = cut(context, steps=6)
    before = len(seen)
    denoise(run)
    assert sum(seen[:before]) / before == pytest.approx(0.8, abs=0.03)
    assert sum(seen[before:]) / len(seen[before:]) == pytest.approx(0.4, abs=0.03)


def test_statistics_of_batch_normalisation_are_those_of_the_masks_that_are_validated():
    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(12, 30)
            self.norm = torch.nn.BatchNorm1d(30)
            self.out = torch.nn.Linear(30, 3)

        def forward(self, x, edge_index):
            return self.out(self.norm(self.lin(x)).relu())

    for recalibrates in (True, False):
        context = replace(_context(edge_sparsity=0.0, recalibrate=recalibrates), model=Normed())
        run = cut(context, steps=6)
        run.val_metric()
        model = context.model
        mean = model.lin(context.data.x).mean(dim=0)
        assert torch.allclose(model.norm.running_mean, mean, atol=1e-5) == recalibrates


def test_matrices_of_the_whole_graph_are_given_up_before_denoising():
    data = graph()
    sparse = with_sparse_inputs(build("gcn", data), data, NodeClassification())
    known = sparse[ADJACENCY]
    for edge_sparsity, is_kept in ((0.29, False), (0.0, True)):
        cut(_context(sparse, edge_sparsity=edge_sparsity), steps=4)
        assert bool(known._products) == is_kept


def test_random_masks_follow_from_the_seed_and_not_from_the_weights():
    first = _search("random")[1]
    again = _search("random")[1]
    other = _search("random", seed=1)[1]
    context = _context()
    with torch.no_grad():
        for parameter in context.model.parameters():
            parameter.normal_()
    moved = get_method("random").search(context)
    for twin in (again, moved):
        assert torch.equal(first.edge_mask.keep, twin.edge_mask.keep)
        assert states_equal(first.weight_mask.masks, twin.weight_mask.masks)
    assert not torch.equal(first.edge_mask.keep, other.edge_mask.keep)


def test_random_keeps_every_group_equally_often():
    data = graph(30)
    groups = EdgeGroups.of(data).num_groups
    total = torch.zeros(groups)
    for seed in range(60):
        context = _context(data, seed=seed, edge_sparsity=0.5)
        total += get_method("random").search(context).edge_mask.keep
    assert float(total.min()) > 8
    assert float(total.max()) < 52


def test_one_shot_is_the_cut_that_denoising_starts_from():
    _, cut = _search("one-shot")
    _, still = _search("fastglt", denoise_steps=0)
    assert torch.equal(cut.edge_mask.keep, still.edge_mask.keep)
    assert states_equal(cut.weight_mask.masks, still.weight_mask.masks)


def test_a_pretrained_model_is_cut_by_the_weights_it_has():
    context = _context(pretrained=True)
    name = "convs.0.lin.weight"
    weight = context.model.get_parameter(name)
    with torch.no_grad():
        weight[:, 0] = 100.0
    result = get_method("one-shot").search(context)
    assert result.weight_mask[name][:, 0].all()


def test_the_paper_without_pretraining_starts_from_random_edges():
    settings = {"preset": "paper", "pretrain_epochs": 0}
    first = _search("one-shot", **settings)[1].edge_mask.keep
    again = _search("one-shot", **settings)[1].edge_mask.keep
    other = _search("one-shot", seed=1, **settings)[1].edge_mask.keep
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_test_labels_have_no_influence(method):
    data = graph()
    other = data.clone()
    test = other.test_mask.nonzero().view(-1)
    other.y[test] = (other.y[test] + 1) % 3
    first, second = (_search(method, data=graph_)[1] for graph_ in (data, other))
    assert torch.equal(first.edge_mask.keep, second.edge_mask.keep)
    assert states_equal(first.weight_mask.masks, second.weight_mask.masks)
    assert first.history == second.history


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_impossible_budgets_are_refused(method):
    with pytest.raises(BudgetError, match="without any of its"):
        _search(method, weight_sparsity=0.999)


@pytest.mark.parametrize(("limit", "where"), [(1, "pretrain epoch 2"), (3, "denoise step 2")])
def test_a_loss_that_explodes_names_the_step(limit, where):
    class Exploding(NodeClassification):
        calls = 0

        def loss(self, out, data, split="train"):
            self.calls += out.requires_grad  # the model's evaluations do not count
            return super().loss(out, data, split) * (float("nan") if self.calls > limit else 1)

    with pytest.raises(NonFiniteLossError, match=where):
        _search("fastglt", objective=Objective(Exploding()))


def test_a_model_deaf_to_its_edges_cannot_be_searched_for_edges():
    class Deaf(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(12, 3)

        def forward(self, x, edge_index):
            return self.lin(x)

    context = _context(edge_score="unit-gate")
    deaf = SearchContext(**{**vars(context), "model": Deaf()})
    with pytest.raises(ModelError, match="does not depend on"):
        get_method("one-shot").search(deaf)


def test_an_unknown_method_lists_what_there_is():
    with pytest.raises(UnknownNameError, match=r"'fast-glt'; did you mean 'fastglt'.*random"):
        get_method("fast-glt")


def test_the_registry_refuses_a_name_twice():
    get_method("random")

    class Again(SearchMethod):
        name = "random"

        def search(self, context):
            raise NotImplementedError

    with pytest.raises(ValueError, match="'random' is registered already"):
        register(Again)


def test_a_frozen_start_is_not_needed():
    context = _context(pretrained=True)
    before = clone_state(context.model)
    result = get_method("random").search(context)
    assert states_equal(before, result.state)


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_sparsity_warm_up_still_ends_at_the_target(method):
    context, result = _search(method, warmup_start=0.2, warmup_events=2)
    groups = context.groups.num_groups
    assert result.edge_mask.num_kept == groups - num_removed(groups, 0.29)
    total = result.weight_mask.num_weights
    assert result.weight_mask.num_kept == total - num_removed(total, 0.8)


def test_trained_gates_stay_positive_where_kept_and_zero_where_pruned():
    context = _context(edge_score="trained-gate", edge_l1=1.0, lr=0.2)
    run = cut(context, steps=6)
    denoise(run)
    keep = run.denoiser.edge_mask.keep
    assert (run.gate[keep] >= GATE_FLOOR).all()
    assert (run.gate[~keep] == 0).all()


def test_pruned_edges_are_scored_by_the_slope_of_a_whole_edge():
    context = _context(edge_score="trained-gate")
    run = cut(context, steps=6)
    mask = run.denoiser.edge_mask
    found = edge_gradient(run.score, context.data.edge_index, context.groups, mask.keep)
    with torch.no_grad():
        run.gate[mask.keep] = 1.0
    expected = edge_gradient(
        lambda e, w: context.objective(context.model(context.data.x, e, w), context.data),
        context.data.edge_index, context.groups, mask.keep,
    )  # fmt: skip
    pruned = ~mask.keep
    # Kept gates are close to 1 after so few epochs, so the slopes are too.
    assert found[pruned].abs().max() > 0.1 * expected[pruned].abs().max()


@pytest.mark.parametrize("num_edges", [0, 1])
def test_trained_gates_of_next_to_no_edges(num_edges):
    data = graph()
    data = with_edges(data, data.edge_index[:, :num_edges])
    _, result = _search("fastglt", data=data, edge_score="trained-gate", edge_diversity=0.1)
    assert result.edge_mask.num_kept == num_edges


def test_divergence_scores_an_edge_by_what_it_takes_from_the_distance_to_the_reference():
    data = graph()
    context = _context(data, edge_score="divergence")
    teacher = build("gcn", data, seed=1).eval()
    task = context.objective.task
    with torch.no_grad():
        encoded = task.encode(teacher, data)
    reference = Objective(task, Teacher(encoded, model=teacher))
    run = cut(replace(context, reference=reference), steps=4)
    keep = run.denoiser.edge_mask.keep
    found = run.score(data.edge_index, unit_gates(context.groups, keep))
    model, exact = context.model.double().eval(), data.clone()
    exact.x = data.x.double()
    target = task.target(teacher, encoded, data).double()

    def distance(gates):
        with torch.no_grad():
            return float(task.guidance(task.forward(model, exact, gates), target, 1.0))

    for group in (0, 17, 40):
        step = torch.zeros(context.groups.num_groups, dtype=torch.float64)
        step[group] = 1e-4
        high, low = (
            distance(context.groups.to_edges(keep.double() + sign * step, 1.0)) for sign in (1, -1)
        )
        assert float(found[group]) == pytest.approx((low - high) / 2e-4, rel=1e-2, abs=1e-6)


def test_channels_are_asked_for_only_where_they_count():
    asked = []

    def channels():
        asked.append(True)
        return ()

    for settings in ({"channel_power": 0.0}, {"channel_power": 1.0, "weight_sparsity": 0.0}):
        cut(replace(_context(**settings), channels=channels), steps=4)
    assert asked == []
    cut(replace(_context(channel_power=1.0), channels=channels), steps=4)
    cut(replace(_context(allocation="live"), channels=channels), steps=4)
    assert len(asked) == 2


def test_weights_gather_on_few_channels():
    def alive(power):
        context = _context(channel_power=power, allocation="live", denoise_steps=40, interval=2,
                           alpha=0.3, accumulation=1)  # fmt: skip
        groups = channel_groups(
            context.model, lambda model: context.objective.task.encode(model, context.data)
        )
        run = cut(replace(context, channels=lambda: groups), steps=40)
        denoise(run)
        mask = run.denoiser.weight_mask
        assert mask.num_kept == mask.num_weights - num_removed(mask.num_weights, 0.8)
        (group,) = groups
        return live_shapes(mask, groups)[group.writers[0]][0]

    assert alive(2.0) < alive(0.0)


def test_edges_are_scored_by_the_teacher_as_it_is():
    data = graph(homophily=0.95)
    kept = [
        fastglt.find(
            build("gcn", data), data, method="one-shot", edge_sparsity=0.4,
            **TINY | {"teacher_propagation": share},
        ).edge_keep
        for share in (0.0, 0.8)
    ]  # fmt: skip
    # Guidance in pre-training differs, but the cut goes by the dense model on random graphs.
    assert torch.equal(*kept)


def test_settings_know_every_edge_score():
    assert set(SCORE_NAMES) == set(EDGE_SCORES)


def test_several_edge_scores_are_the_sum_of_their_ranks():
    context = _context()
    graph_ = Graph(context, None, EdgeMask.full(context.groups).keep, None)
    found = edge_scores("degree+similarity", graph_)
    parts = [scores.ranks(edge_scores(name, graph_)) for name in ("degree", "similarity")]
    assert torch.equal(found, parts[0] + parts[1])
    x, (source, target) = context.data.x, context.groups.ends
    cosine = torch.nn.functional.cosine_similarity(x[source], x[target])
    torch.testing.assert_close(edge_scores("similarity", graph_), cosine)


def test_similarity_needs_features():
    context = _context()
    del context.data.x
    graph_ = Graph(context, None, EdgeMask.full(context.groups).keep, None)
    with pytest.raises(InputError, match=r"must have data\.x"):
        edge_scores("similarity", graph_)
