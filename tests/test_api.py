from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN, SuperGATConv

import fastglt
from fastglt.cost import num_parameters
from fastglt.errors import (
    BudgetError,
    GraphError,
    InputError,
    ModelError,
    NonFiniteLossError,
    UnknownNameError,
)
from fastglt.gating import prunable_weights
from fastglt.masks import EdgeGroups, num_removed
from fastglt.training.callback import Callback
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import clone_state
from helpers import (
    PRUNING_METHODS,
    TINY,
    build,
    graph,
    isolate,
    states_equal,
    tensors_of,
    with_edges,
    with_loops,
)

BUDGETS = [(0.29, 0.0), (0.0, 0.8), (0.29, 0.8), (0.0, 0.0)]


def find(data=None, model="gcn", **settings):
    data = data if data is not None else graph()
    model = build(model, data) if isinstance(model, str) else model
    given = TINY | {"edge_sparsity": 0.29, "weight_sparsity": 0.8} | settings
    return fastglt.find(model, data, **given)


def _assert_exact(ticket, data, model, edge_sparsity, weight_sparsity):
    groups = EdgeGroups.of(data)
    removed = num_removed(groups.num_groups, edge_sparsity)
    sizes = {name: weight.numel() for name, weight in prunable_weights(model).items()}
    total = sum(sizes.values())
    pruned = num_removed(total, weight_sparsity)
    per_group = 2 if groups.undirected else 1
    assert ticket.edge_keep.numel() - ticket.num_edges_kept == removed * per_group
    assert set(ticket.weight_masks) == set(sizes)
    assert ticket.num_weights_kept == total - pruned
    assert ticket.metrics["edge_sparsity"] == pytest.approx(removed / max(groups.num_groups, 1))
    assert ticket.metrics["weight_sparsity"] == pytest.approx(pruned / total)
    for name, keep in ticket.weight_masks.items():
        assert torch.count_nonzero(ticket.trained_state[name][~keep]) == 0


@pytest.mark.parametrize("method", PRUNING_METHODS)
@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize(("edges", "weights"), BUDGETS)
def test_sparsities_are_exact_and_nothing_given_is_changed(method, preset, edges, weights):
    data = graph()
    model = build("gcn", data).train()
    before, state = tensors_of(data), clone_state(model)
    ticket = find(
        data, model, method=method, preset=preset, edge_sparsity=edges, weight_sparsity=weights
    )
    _assert_exact(ticket, data, model, edges, weights)
    assert states_equal(before, tensors_of(data))
    assert states_equal(state, model.state_dict())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    # reinit is about other initial weights than the model's.
    assert states_equal(ticket.init_state, state) == (method != "reinit")
    assert ticket.is_lottery_ticket == (method != "reinit")


@pytest.mark.parametrize("name", ["sage", "gin", "gat", "weighted", "plain"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_other_models_work_unmodified(name, preset):
    data = isolate(graph(), 4)
    model = build(name, data)
    ticket = find(data, model, preset=preset)
    _assert_exact(ticket, data, model, 0.29, 0.8)
    applied, small = ticket.apply(model, data)
    out = applied.eval()(small.x, small.edge_index)
    assert torch.isfinite(out).all()
    assert out.shape == (90, 3)


def test_the_applied_ticket_reaches_the_reported_metrics():
    data = graph()
    model = build("gcn", data)
    ticket = find(data, model)
    applied, small = ticket.apply(model, data)
    right = applied.eval()(small.x, small.edge_index).argmax(dim=1) == data.y
    for split in ("val", "test"):
        accuracy = float(right[data[f"{split}_mask"]].float().mean())
        assert ticket.metrics[f"{split}_ticket"] == pytest.approx(accuracy)


def _comparable(ticket):
    return {name: value for name, value in ticket.metrics.items() if name != "seconds"}


def _assert_same(first, second):
    assert torch.equal(first.edge_keep, second.edge_keep)
    assert states_equal(first.weight_masks, second.weight_masks)
    assert states_equal(first.init_state, second.init_state)
    assert states_equal(first.trained_state, second.trained_state)
    assert first.history == second.history


@pytest.mark.parametrize("method", PRUNING_METHODS)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_same_seed_gives_the_same_ticket_whatever_the_global_state(method, preset):
    torch.manual_seed(1)
    first = find(method=method, preset=preset)
    torch.manual_seed(2)
    torch.rand(5)
    state = torch.get_rng_state()
    second = find(method=method, preset=preset)
    assert torch.equal(torch.get_rng_state(), state)
    _assert_same(first, second)
    assert _comparable(first) == _comparable(second)


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_another_seed_gives_another_ticket(method):
    first, second = find(method=method), find(method=method, seed=1)
    assert not states_equal(first.trained_state, second.trained_state)


@pytest.mark.parametrize("method", PRUNING_METHODS)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_test_labels_change_nothing_but_the_test_metrics(method, preset):
    data = graph()
    other = data.clone()
    test = other.test_mask.nonzero().view(-1)
    other.y[test] = (other.y[test] + 1) % 3
    first = find(data, method=method, preset=preset)
    second = find(other, method=method, preset=preset)
    _assert_same(first, second)
    changed = {name for name, value in _comparable(first).items() if value != second.metrics[name]}
    assert changed <= {"test_dense", "test_ticket"}
    assert changed


def test_metrics_are_complete_and_consistent():
    data = graph()
    model = build("gcn", data)
    ticket = find(data, model)
    metrics = ticket.metrics
    assert metrics["epochs"] == {"dense": 4, "teacher": 0, "search": 8, "retrain": 4}
    seconds = metrics["seconds"]
    stages = {"dense", "teacher", "search", "retrain"}
    assert set(seconds) == stages | {"total"}
    parts = [seconds[stage] for stage in stages]
    assert all(part >= 0 for part in parts)
    assert seconds["total"] >= sum(parts)
    assert metrics["edges_dense"] == data.num_edges
    assert metrics["edges_ticket"] == ticket.num_edges_kept
    assert metrics["params_dense"] == num_parameters(model)
    assert metrics["params_ticket"] == num_parameters(model, ticket.weight_masks)
    assert metrics["macs_ticket"] < metrics["macs_dense"]
    assert 1 <= metrics["best_retrain_epoch"] <= 4
    assert all(0 <= metrics[f"{s}_{w}"] <= 1 for s in ("val", "test") for w in ("dense", "ticket"))


def test_a_ticket_survives_a_file(tmp_path):
    ticket = find(preset="paper")
    ticket.save(tmp_path / "ticket.safetensors")
    loaded = fastglt.Ticket.load(tmp_path / "ticket.safetensors")
    _assert_same(ticket, loaded)
    assert loaded.metrics == ticket.metrics
    assert loaded.settings == ticket.settings
    assert loaded.settings["edge_sparsity"] == 0.29


def test_settings_in_the_ticket_repeat_the_search():
    ticket = find(preset="paper", seed=3, alpha=0.2)
    again = fastglt.find(build("gcn", graph()), graph(), **ticket.settings)
    _assert_same(ticket, again)


def test_dropping_nothing_without_a_teacher_is_dense_training():
    ticket = find(edge_sparsity=0.0, weight_sparsity=0.0, teacher="none")
    assert ticket.metrics["val_ticket"] == ticket.metrics["val_dense"]
    assert ticket.metrics["test_ticket"] == ticket.metrics["test_dense"]
    assert ticket.edge_keep.all()


class Listener(Callback):
    def __init__(self):
        self.phases = []

    def on_phase_start(self, phase, total):
        self.phases.append(phase)


def test_a_run_from_scratch_goes_through_all_phases():
    heard = Listener()
    find(callback=heard)
    assert heard.phases == ["dense", "pretrain", "denoise", "retrain"]


def test_a_trained_model_with_its_initialisation_is_not_trained_again():
    data = graph()
    init = clone_state(build("gcn", data, seed=5))
    before = {name: value.clone() for name, value in init.items()}
    heard = Listener()
    ticket = find(data, init=init, callback=heard)
    assert heard.phases == ["denoise", "retrain"]
    assert ticket.metrics["epochs"] == {"dense": 0, "teacher": 0, "search": 6, "retrain": 4}
    assert states_equal(ticket.init_state, init)
    assert states_equal(before, init)
    assert ticket.is_lottery_ticket


def test_fine_tuning_goes_on_from_the_searched_weights_and_is_no_lottery_ticket():
    data = graph()
    heard = Listener()
    ticket = find(data, recover="finetune", callback=heard)
    assert heard.phases == ["denoise", "finetune"]
    assert not ticket.is_lottery_ticket
    _assert_exact(ticket, data, build("gcn", data), 0.29, 0.8)


def test_fine_tuning_does_not_rewind():
    data = graph()
    model = build("gcn", data)
    trained = find(data, model, edge_sparsity=0.0, weight_sparsity=0.0, dense_epochs=60)
    model.load_state_dict(trained.trained_state)
    settings = {"method": "one-shot", "weight_sparsity": 0.0, "edge_sparsity": 0.0, "lr": 1e-6}
    tuned = find(data, model, recover="finetune", **settings)
    for name, value in model.state_dict().items():
        assert torch.allclose(tuned.trained_state[name], value, atol=1e-4)


def test_fine_tuning_starts_where_the_search_ended():
    data = graph()
    model = build("gcn", data)
    settings = {"denoise_steps": 40, "retrain_epochs": 1, "edge_sparsity": 0.0}
    tuned = find(data, model, recover="finetune", weight_sparsity=0.3, **settings)
    # One epoch of Adam moves no weight further than its learning rate.
    weight = model.convs[0].lin.weight.detach()
    moved = (tuned.trained_state["convs.0.lin.weight"] - weight).abs()
    moved = moved[tuned.weight_masks["convs.0.lin.weight"]]
    assert float(moved.max()) > 5 * tuned.settings["lr"]


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (lambda s: {n: v for n, v in s.items() if "0.bias" not in n}, "'convs.0.bias'"),
        (lambda s: s | {"extra": torch.zeros(1)}, "'extra'"),
        (
            lambda s: s | {"convs.0.bias": torch.zeros(3)},
            "must be a tensor of shape",
        ),
    ],
)
def test_an_initialisation_that_does_not_fit_names_the_entry(init, message):
    data = graph()
    model = build("gcn", data)
    with pytest.raises(InputError, match=message):
        find(data, model, init=init(clone_state(model)))


def test_an_initialisation_cannot_be_given_for_fine_tuning():
    data = graph()
    model = build("gcn", data)
    with pytest.raises(InputError, match="leave it out to fine-tune"):
        find(data, model, init=clone_state(model), recover="finetune")


def test_isolated_nodes_and_self_loops_are_no_obstacle():
    data = with_loops(isolate(isolate(graph(), 3), 8), torch.tensor([3, 10]))
    ticket = find(data, edge_sparsity=0.9)
    assert ticket.edge_keep[:2].all()
    _assert_exact(ticket, data, build("gcn", data), 0.9, 0.8)


def test_a_directed_graph_is_pruned_edge_by_edge():
    data = graph()
    data.edge_index = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    ticket = find(data)
    _assert_exact(ticket, data, build("gcn", data), 0.29, 0.8)


def test_the_kept_graph_is_made_once(monkeypatch):
    calls = []

    def counted(data, keep):
        calls.append(keep)
        return kept_view(data, keep)

    monkeypatch.setattr("fastglt.api.finder.kept_view", counted)
    ticket = find()
    assert len(calls) == 1
    assert torch.equal(calls[0], ticket.edge_keep)


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_edges_are_grouped_once(method, monkeypatch):
    calls = []
    make = EdgeGroups.from_edge_index

    def counted(*arguments):
        calls.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(EdgeGroups, "from_edge_index", counted)
    find(method=method)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["gcn", "sage"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_graph_with_edge_weights_works(name, preset):
    data = graph()
    low, high = data.edge_index.min(dim=0).values, data.edge_index.max(dim=0).values
    data.edge_weight = 0.5 + ((low * 7 + high) % 5) / 4
    assert EdgeGroups.of(data).undirected
    ticket = find(data, name, preset=preset)
    _assert_exact(ticket, data, build(name, data), 0.29, 0.8)
    applied, small = ticket.apply(build(name, data), data)
    assert torch.equal(small.edge_weight, data.edge_weight[ticket.edge_keep])
    arguments = (small.edge_weight,) if name == "gcn" else ()
    right = applied.eval()(small.x, small.edge_index, *arguments).argmax(dim=1) == data.y
    accuracy = float(right[data.val_mask].float().mean())
    assert ticket.metrics["val_ticket"] == pytest.approx(accuracy)


@pytest.mark.parametrize("name", ["sage", "gat", "plain"])
def test_edge_weights_that_the_model_does_not_take_are_noted(name):
    data = graph()
    data.edge_weight = torch.full((data.num_edges,), 0.5)
    (note,) = find(data, name, teacher_propagation=0.0).metrics["notes"]
    assert note.startswith("data.edge_weight was not used")


def test_edge_weights_that_are_used_are_not_noted():
    class Own(fastglt.training.tasks.NodeClassification):
        def call(self, model, data):
            return model(data.x, data.edge_index) * data.edge_weight.mean()

    data = graph()
    data.edge_weight = torch.full((data.num_edges,), 0.5)
    assert find(data, "gcn", teacher_propagation=0.0).metrics["notes"] == []
    assert find(data, "sage", task=Own(), teacher_propagation=0.0).metrics["notes"] == []


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (torch.arange(90).repeat(2, 1), "no edges to prune"),
        (torch.empty(2, 0, dtype=torch.long), "no edges to prune"),
        (torch.tensor([[0, 1], [1, 0]]), "0.29 of 1 prunable pairs of opposite edges is less"),
        (torch.tensor([[0, 1], [1, 2]]), "0.29 of 2 prunable edges is less than one"),
    ],
)
def test_an_edge_budget_that_removes_nothing_is_noted(edge_index, message):
    data = with_edges(graph(), edge_index)
    (note,) = find(data, teacher_propagation=0.0).metrics["notes"]
    assert note.startswith("no edge was pruned: ")
    assert message in note


def test_a_ticket_of_nothing_is_noted():
    plain = {"teacher_propagation": 0.0, "edge_sparsity": 0.0}
    (note,) = find(**plain, weight_sparsity=0.0).metrics["notes"]
    assert note.startswith("no sparsity was asked for")
    assert find(**plain).metrics["notes"] == []


@pytest.mark.parametrize("inductive", [False, True])
def test_pruned_and_prunable_edges_are_counted(inductive):
    metrics = find(with_loops(graph(), torch.tensor([3])), inductive=inductive).metrics
    assert (metrics["edges_prunable"] < 540) == inductive
    assert metrics["edges_pruned"] == metrics["edges_dense"] - metrics["edges_ticket"]
    pairs = metrics["edges_prunable"] // 2
    assert metrics["edges_pruned"] == 2 * num_removed(pairs, 0.29)


def test_a_graph_without_edges_can_lose_weights():
    data = with_edges(graph(), torch.empty(2, 0, dtype=torch.long))
    ticket = find(data, edge_sparsity=0.0)
    assert ticket.edge_keep.shape == (0,)
    _assert_exact(ticket, data, build("gcn", data), 0.0, 0.8)


def test_an_empty_test_mask_gives_no_test_metric():
    data = graph()
    data.test_mask = torch.zeros_like(data.test_mask)
    ticket = find(data)
    assert ticket.metrics["val_ticket"] is not None
    assert ticket.metrics["test_dense"] is None
    assert ticket.metrics["test_ticket"] is None


def test_without_a_test_mask_there_is_no_test_metric():
    data = graph()
    del data.test_mask
    assert find(data).metrics["test_ticket"] is None


@pytest.mark.parametrize("sparse", [True, False])
def test_sparse_inputs_are_reported(sparse):
    ticket = find(sparse_inputs=sparse)
    assert bool(ticket.metrics["sparse_inputs"]) == sparse


@pytest.mark.parametrize("dtype", [torch.float64])
def test_double_precision_works(dtype):
    data = graph()
    data.x = data.x.to(dtype)
    ticket = find(data, build("gcn", data).to(dtype))
    assert ticket.trained_state["convs.0.lin.weight"].dtype == dtype


def _broken(change):
    data = graph()
    change(data)
    return data


def _set(key, position, value):
    def change(data):
        data[key] = data[key].clone()
        data[key][position] = value

    return change


def _replace(key, function):
    def change(data):
        data[key] = function(data)

    return change


BAD_GRAPHS = {
    "edge too large": (_set("edge_index", (0, 3), 90), r"edge_index.*90"),
    "edge negative": (_set("edge_index", (1, 0), -1), r"edge_index.*-1"),
    "edge dtype": (_replace("edge_index", lambda d: d.edge_index.int()), "edge_index.*int32"),
    "edge shape": (_replace("edge_index", lambda d: d.edge_index.t()), r"edge_index.*\[2, num"),
    "nan": (_set("x", (5, 2), math.nan), "x must be finite.*row 5, column 2"),
    "infinite": (_set("x", (0, 0), math.inf), "x must be finite"),
    "label": (_set("y", slice(None), -1), r"y must be in"),
    "label dtype": (_replace("y", lambda d: d.y.float()), "y must be torch.int64"),
    "no train": (_replace("train_mask", lambda d: d.train_mask & False), "train_mask"),
    "no val": (_replace("val_mask", lambda d: d.val_mask & False), "val_mask"),
    "overlap": (_replace("val_mask", lambda d: d.val_mask | d.train_mask), "overlap"),
    "mask dtype": (_replace("train_mask", lambda d: d.train_mask.long()), "train_mask"),
    "weight length": (_replace("edge_weight", lambda d: torch.ones(3)), "edge_weight"),
    "weight nan": (
        _replace("edge_weight", lambda d: torch.full((d.num_edges,), math.nan)),
        "edge_weight",
    ),
}


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_bad_graphs_are_refused_by_key(case):
    change, message = BAD_GRAPHS[case]
    with pytest.raises(GraphError, match=message):
        find(_broken(change), build("gcn", graph()))


@pytest.mark.parametrize("key", ["x", "y", "edge_index", "train_mask", "val_mask"])
def test_a_missing_part_of_the_graph_is_named(key):
    data = graph()
    del data[key]
    with pytest.raises(GraphError, match=f"data.{key} is missing"):
        find(data, build("gcn", graph()))


@pytest.mark.parametrize("name", ["edge_sparsity", "weight_sparsity"])
@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.2, math.nan])
def test_sparsities_out_of_range_are_refused(name, bad):
    with pytest.raises(BudgetError, match=rf"{name} must be in \[0, 1\) \(got {bad}\)"):
        find(**{name: bad})


@pytest.mark.parametrize("method", PRUNING_METHODS)
def test_a_budget_that_empties_a_layer_names_it(method):
    with pytest.raises(BudgetError, match=r"weight_sparsity 0.998 leaves layer 'convs.\d"):
        find(method=method, weight_sparsity=0.998)


@pytest.mark.parametrize(
    ("name", "bad", "kind", "message"),
    [
        ("method", "fastgtl", UnknownNameError, "'fastglt'"),
        ("preset", "papers", UnknownNameError, "'paper'"),
        ("denoise_step", 3, UnknownNameError, "'denoise_steps'"),
        ("teacher", "sparse", InputError, "teacher"),
        ("lr", -1.0, InputError, "lr"),
        ("seed", -1, InputError, "seed"),
        ("recover", "x", InputError, "recover"),
    ],
)
def test_bad_settings_are_refused_by_name(name, bad, kind, message):
    with pytest.raises(kind, match=message):
        find(**{name: bad})


class _Returns(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.lin = nn.Linear(12, 3)
        self.change = change

    def forward(self, x, edge_index):
        return self.change(self.lin(x))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda out: out[:, :2], r"\(90, 2\)"),
        (lambda out: out[:-1], r"\(89, 3\)"),
        (lambda out: out.mean(), r"\(\)"),
        (lambda out: (out, out), "tuple"),
        (lambda out: out.argmax(dim=1), "torch.int64"),
    ],
)
def test_a_model_that_returns_something_else_is_refused(change, found):
    with pytest.raises(ModelError, match=rf"\(90, 3\).*got .*{found}"):
        find(model=_Returns(change))


def test_models_that_cannot_be_searched_are_refused():
    with pytest.raises(ModelError, match="cached=True"):
        find(model=GCN(12, 16, 2, 3, cached=True))
    with pytest.raises(ModelError, match="no prunable weights"):
        find(model=nn.Identity())


def test_an_output_that_is_not_finite_from_the_start_is_no_matter_of_the_learning_rate():
    data = graph()
    model = build("gcn", data)
    with torch.no_grad():
        model.convs[1].lin.weight.fill_(math.inf)
    with pytest.raises(NonFiniteLossError, match="dense epoch 1, before any weight was changed"):
        find(data, model)


def test_negative_edge_weights_that_break_a_model_are_pointed_at():
    data = graph()
    data.edge_weight = torch.full((data.num_edges,), -3.0)
    with pytest.raises(NonFiniteLossError, match="look for negative edge weights"):
        find(data)


def test_a_loss_that_explodes_names_phase_epoch_and_setting():
    with pytest.raises(NonFiniteLossError, match=r"epoch \d+ with lr=1e\+30; try a lower lr"):
        find(graph(), lr=1e30)


def test_bad_input_is_found_before_any_training():
    heard = Listener()
    for bad in ({"weight_sparsity": 0.998}, {"method": "nope"}, {"lr": -1}):
        with pytest.raises(InputError):
            find(callback=heard, **bad)
    assert heard.phases == []


def test_gates_cannot_be_trained_where_pre_training_is_left_out():
    with pytest.raises(InputError, match="influence"):
        find(preset="paper", recover="finetune")


def test_an_unreachable_warm_up_is_refused():
    with pytest.raises(InputError, match="warmup_events must be at most"):
        find(warmup_start=0.1, warmup_events=50)


def test_the_models_own_memory_is_no_initialisation():
    model = build("gcn", graph())
    with pytest.raises(InputError, match="take a copy"):
        find(model=model, init=model.state_dict())


def test_a_model_that_fails_on_the_graph_is_named():
    with pytest.raises(ModelError, match="failed on x"):
        find(model=GCN(7, 16, 2, 3))


@pytest.mark.parametrize("name", ["edge_l1", "lr", "weight_decay"])
def test_infinite_settings_are_refused_before_the_search(name):
    with pytest.raises(InputError, match=name):
        find(**{name: float("inf")})


def test_a_conv_that_cannot_be_copied_once_it_was_trained():
    class Attention(torch.nn.Module):
        def __init__(self, num_features):
            super().__init__()
            self.first = SuperGATConv(num_features, 8)
            self.second = SuperGATConv(8, 3)

        def forward(self, x, edge_index):
            return self.second(self.first(x, edge_index).relu(), edge_index)

    data = graph()
    for edge_score in ("influence", "divergence"):
        ticket = fastglt.find(
            Attention(data.num_features), data, **TINY, edge_sparsity=0.3, weight_sparsity=0.5,
            teacher="none", inductive=True, edge_score=edge_score,
        )  # fmt: skip
        assert 0 < ticket.metrics["edge_sparsity"] < 1


def test_weight_decay_stays_where_no_weight_is_pruned():
    data = graph()
    found = [
        fastglt.find(
            build("gcn", data), data, **TINY, weight_sparsity=0.9, teacher="none", method="dense",
            weight_decay=0.05, decay_power=power,
        ).metrics
        for power in (0.0, 1.0)
    ]  # fmt: skip
    assert found[0]["val_ticket"] == found[1]["val_ticket"]


@pytest.mark.parametrize(
    ("phases", "weight"), [("both", None), ("search", None), ("retrain", None), ("both", 0.0)]
)
def test_weight_decay_is_lower_where_a_teacher_guides(phases, weight):
    data = graph()
    states = [
        fastglt.find(
            build("gcn", data), data, **TINY, method="dense", weight_decay=0.5,
            teacher_phases=phases, teacher_weight=weight, teacher_decay=power,
        ).trained_state
        for power in (0.0, 1.0)
    ]  # fmt: skip
    assert states_equal(*states) == (phases == "search" or weight == 0)
