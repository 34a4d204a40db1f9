from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn import GCN

import fastglt
from fastglt.errors import BudgetError, GraphError, InputError, ModelError
from fastglt.masks import EdgeGroups, num_removed
from fastglt.search.denoiser import Denoiser
from fastglt.settings import DenoiseConfig
from fastglt.training.loop import clone_state
from helpers import build, graph, isolate, states_equal, tensors_of, with_loops

QUICK = DenoiseConfig(interval=3, accumulation=2)


class Loop:
    """A user's own training loop around a denoiser."""

    def __init__(self, data=None, model="gcn", optimizer=None, steps=12, config=QUICK, **budgets):
        self.data = data if data is not None else graph()
        self.model = build(model, self.data)
        make = optimizer or (lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=5e-4))
        self.optimizer = make(self.model.parameters())
        self.budgets = budgets or {"edge_sparsity": 0.4, "weight_sparsity": 0.8}
        self.pruner = Denoiser(
            self.model, self.optimizer, self.data, steps=steps, config=config, **self.budgets
        )

    def loss(self, edge_index, edge_weight=None):
        out = self.model(self.data.x, edge_index, edge_weight)
        return F.cross_entropy(out[self.data.train_mask], self.data.y[self.data.train_mask])

    def train(self):
        self.optimizer.zero_grad()
        self.loss(self.pruner.edge_index).backward()
        self.optimizer.step()

    def run(self, steps, **arguments):
        events = []
        for _ in range(steps):
            self.train()
            events.append(self.pruner.step(**({"score": self.loss} | arguments)))
        return events

    def assert_exact(self, edge_sparsity, weight_sparsity):
        pruner = self.pruner
        groups = EdgeGroups.of(self.data).num_groups
        assert pruner.edge_mask.num_kept == groups - num_removed(groups, edge_sparsity)
        mask = pruner.weight_mask
        assert mask.num_kept == mask.num_weights - num_removed(mask.num_weights, weight_sparsity)
        for name, keep in mask.items():
            assert torch.count_nonzero(self.model.get_parameter(name)[~keep]) == 0
        assert torch.equal(pruner.edge_index, self.data.edge_index[:, pruner.edge_mask.edges])


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=5e-4),
    ],
    ids=["sgd", "adamw", "adam"],
)
@pytest.mark.parametrize("allocation", ["erk", "uniform", "global"])
def test_counts_are_exact_after_every_step(optimizer, allocation):
    config = DenoiseConfig(interval=2, accumulation=1, allocation=allocation)
    loop = Loop(optimizer=optimizer, config=config, edge_sparsity=0.29, weight_sparsity=0.8)
    loop.assert_exact(0.29, 0.8)
    for _ in range(12):
        loop.run(1)
        loop.assert_exact(0.29, 0.8)
    swapped = [(event.edges_swapped, event.weights_swapped) for event in loop.pruner.history]
    assert len(swapped) == 5
    assert swapped[0][0] > 0
    assert swapped[0][1] > 0


@pytest.mark.parametrize(("edges", "weights"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.9)])
def test_a_budget_of_0_leaves_its_side_alone(edges, weights):
    loop = Loop(edge_sparsity=edges, weight_sparsity=weights)
    for event in filter(None, loop.run(12)):
        assert (event.edges_swapped > 0) <= (edges > 0)
        assert (event.weights_swapped > 0) <= (weights > 0)
        loop.assert_exact(edges, weights)


def test_pairs_fall_together_and_loops_stay():
    data = with_loops(isolate(graph(), 5), torch.tensor([1, 5]))
    loop = Loop(data=data, edge_sparsity=0.7)
    for _ in range(6):
        loop.run(1)
        kept = {tuple(edge) for edge in loop.pruner.edge_index.t().tolist()}
        assert {(1, 1), (5, 5)} <= kept
        assert all((v, u) in kept for u, v in kept)
        assert loop.pruner.data.num_nodes == data.num_nodes


def test_the_callers_graph_is_not_changed():
    data = graph()
    before = tensors_of(data)
    Loop(data=data).run(12)
    assert states_equal(before, tensors_of(data))


def test_events_come_every_interval_with_a_falling_share():
    loop = Loop(steps=11)
    events = loop.run(11)
    assert [i for i, event in enumerate(events, 1) if event] == [3, 6, 9]
    found = loop.pruner.history
    assert [event.step for event in found] == [3, 6, 9]
    shares = [event.share for event in found]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < shares[0] < QUICK.alpha
    for event in found:
        assert event.edge_sparsity == pytest.approx(0.4, abs=0.01)
        assert 0 <= event.edge_overlap <= 1
        assert 0 <= event.weight_overlap <= 1


def test_nothing_is_swapped_on_the_last_step():
    loop = Loop(steps=6)
    loop.run(5)
    before = loop.pruner.edge_mask.keep.clone()
    assert loop.run(1) == [None]
    assert torch.equal(loop.pruner.edge_mask.keep, before)


def test_due_says_when_score_and_metric_are_called():
    loop, called = Loop(steps=7), []
    for step in range(1, 8):
        due = loop.pruner.due
        assert due == (step in (3, 6, 7))
        before = len(called)
        loop.run(1, metric=lambda: called.append(1) or 0.5)
        assert (len(called) > before) == due


def test_the_best_masks_by_metric_are_kept_with_their_weights():
    loop = Loop(steps=12)
    states = {}
    for step in range(1, 13):
        loop.train()
        masks = (loop.pruner.edge_mask.keep.clone(), clone_state(loop.model))
        states[step] = masks
        loop.pruner.step(score=loop.loss, metric={6: 0.9, 9: 0.9}.get(step, 0.1))
    best = loop.pruner.best()
    assert (best.step, best.metric) == (6, 0.9)
    assert torch.equal(best.edge_mask.keep, states[6][0])
    assert states_equal(best.state, states[6][1])
    for name, keep in best.weight_mask.items():
        assert torch.count_nonzero(best.state[name][~keep]) == 0


def test_without_a_metric_the_last_masks_are_kept():
    loop = Loop()
    loop.run(12)
    best = loop.pruner.best()
    assert torch.equal(best.edge_mask.keep, loop.pruner.edge_mask.keep)
    assert states_equal(best.state, loop.model.state_dict())
    assert "val_search" not in loop.pruner.ticket().metrics


def test_without_score_edges_go_by_degree_and_that_is_said_once():
    loop = Loop()
    with pytest.warns(UserWarning, match="no score=") as caught:
        loop.run(12, score=None)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    loop.assert_exact(0.4, 0.8)


def test_without_score_nothing_is_said_where_no_edges_are_pruned():
    loop = Loop(weight_sparsity=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run(12, score=None)


def test_score_is_called_with_the_whole_graph_only_on_swaps():
    loop, calls = Loop(), []

    def score(edge_index, edge_weight):
        calls.append((edge_index, edge_weight))
        return loop.loss(edge_index, edge_weight)

    loop.run(12, score=score)
    assert len(calls) == 3
    for edge_index, edge_weight in calls:
        assert torch.equal(edge_index, loop.data.edge_index)
        assert edge_weight.shape == (loop.data.num_edges,)
        assert set(edge_weight.unique().tolist()) == {0.0, 1.0}
    assert calls[0][1].sum() == calls[1][1].sum()


def test_scores_of_edges_may_be_given_instead_of_a_loss():
    loop = Loop(edge_sparsity=0.4)
    groups = loop.pruner.groups
    favourites = loop.pruner.edge_mask.keep.logical_not()
    score = groups.to_edges(favourites.float(), 0.0)
    event = loop.run(3, score=lambda *_: score)[-1]
    assert event.edges_swapped > 0
    kept = loop.pruner.edge_mask.keep
    assert int((kept & favourites).sum()) == event.edges_swapped
    loop.assert_exact(0.4, 0.0)


def test_scores_of_groups_are_as_good_as_those_of_their_edges():
    data = with_loops(graph(), torch.arange(5))
    groups = EdgeGroups.of(data)
    score = torch.rand(2, groups.num_groups, generator=torch.Generator().manual_seed(0))
    masks = []
    for spread in (lambda s: s, lambda s: groups.to_edges(s, 0.0)):
        loop = Loop(data, edge_sparsity=0.4, edge_score=spread(score[0]), groups=groups)
        loop.run(3, score=lambda *_, spread=spread: spread(score[1]))
        masks.append(loop.pruner.edge_mask.keep)
    assert torch.equal(*masks)
    assert loop.pruner.history[0].edges_swapped > 0
    assert loop.pruner.groups is groups


@pytest.mark.parametrize("other", [graph(30), graph(90, average_degree=4.0)])
def test_groups_of_another_graph_are_refused(other):
    found = rf"with 540 edges and 90 nodes \(got {other.num_edges} and {other.num_nodes}\)"
    with pytest.raises(InputError, match=found):
        _make(graph(), groups=EdgeGroups.of(other))


def test_a_score_of_another_shape_is_refused():
    loop = Loop()
    with pytest.raises(InputError, match="score"):
        loop.run(3, score=lambda _, w: loop.model(loop.data.x, loop.data.edge_index, w)[:, 0])


def test_a_score_leaves_the_models_gradients_alone():
    loop = Loop()
    loop.run(2)
    loop.train()
    before = [parameter.grad.clone() for parameter in loop.model.parameters()]
    assert loop.pruner.step(score=loop.loss) is not None
    after = [parameter.grad for parameter in loop.model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_too_many_steps_are_refused():
    loop = Loop(steps=2)
    loop.run(2)
    with pytest.raises(InputError, match=r"more than steps=2 times"):
        loop.pruner.step()


def test_warm_up_reaches_exactly_the_target_and_only_then_gives_a_ticket():
    config = DenoiseConfig(interval=2, accumulation=1, warmup_start=0.5, warmup_events=2)
    loop = Loop(config=config, edge_sparsity=0.4, weight_sparsity=0.8)
    loop.assert_exact(0.2, 0.4)
    with pytest.raises(BudgetError, match="not reached the target sparsity yet"):
        loop.pruner.ticket()
    loop.run(2, metric=99.0)
    loop.assert_exact(0.2 * 1.5, 0.4 * 1.5)
    loop.run(2, metric=99.0)
    loop.assert_exact(0.4, 0.8)
    loop.run(2, metric=0.5)
    best = loop.pruner.best()
    assert best.metric == 0.5
    assert best.edge_mask.num_kept == loop.pruner.edge_mask.num_kept
    loop.run(6, metric=0.1)
    loop.assert_exact(0.4, 0.8)


def test_a_ticket_survives_a_file_and_applies(tmp_path):
    loop = Loop()
    init = clone_state(build("gcn", loop.data))
    loop.run(12, metric=0.5)
    ticket = loop.pruner.ticket()
    assert states_equal(ticket.init_state, init)
    assert not ticket.is_lottery_ticket
    assert ticket.metrics["val_search"] == 0.5
    ticket.save(tmp_path / "t.safetensors")
    loaded = fastglt.Ticket.load(tmp_path / "t.safetensors")
    assert torch.equal(loaded.edge_keep, ticket.edge_keep)
    assert states_equal(loaded.trained_state, ticket.trained_state)
    assert states_equal(loaded.weight_masks, ticket.weight_masks)
    model, data = loaded.apply(build("gcn", loop.data, seed=9), loop.data)
    assert data.num_edges == int(ticket.edge_keep.sum())
    for name, keep in ticket.weight_masks.items():
        assert torch.count_nonzero(model.get_parameter(name)[~keep]) == 0
    loop.model.load_state_dict(ticket.trained_state)
    expected = loop.model.eval()(loop.data.x, loop.data.edge_index[:, ticket.edge_keep])
    assert torch.allclose(model.eval()(data.x, data.edge_index), expected, atol=1e-6)


def test_a_given_initialisation_is_what_the_ticket_rewinds_to():
    data = graph()
    model = build("gcn", data)
    init = clone_state(build("gcn", data, seed=4))
    optimizer = torch.optim.Adam(model.parameters())
    ticket = Denoiser(model, optimizer, data, steps=0, weight_sparsity=0.5, init=init).ticket()
    assert states_equal(ticket.init_state, init)


def test_the_initial_state_is_kept_before_the_cut():
    data = graph()
    model = build("gcn", data)
    dense = clone_state(model)
    optimizer = torch.optim.Adam(model.parameters())
    pruner = Denoiser(model, optimizer, data, steps=0, weight_sparsity=0.9)
    assert states_equal(pruner.ticket().init_state, dense)


@pytest.mark.parametrize("metric", [math.nan, torch.tensor(math.nan), lambda: math.nan])
def test_a_metric_that_is_nan_is_refused(metric):
    loop = Loop(steps=1)
    with pytest.raises(InputError, match=r"metric must be a number \(got nan\)"):
        loop.run(1, metric=metric)


def _make(data, **arguments):
    model = build("gcn", data)
    optimizer = torch.optim.Adam(model.parameters())
    return Denoiser(model, optimizer, data, **({"steps": 3} | arguments))


def test_given_edge_scores_decide_the_cut():
    data = graph()
    score = torch.zeros(data.num_edges)
    groups = EdgeGroups.of(data)
    favourites = torch.arange(groups.num_groups) % 2 == 0
    # Each direction alone is below the others, their mean is not.
    edges = groups.to_edges(favourites, False).nonzero().view(-1)
    score[edges] = 1.0
    keep = _make(data, edge_sparsity=0.5, edge_score=score).edge_mask.keep
    assert favourites[keep].all()


@pytest.mark.parametrize("shape", [(3,), (540, 1), ()])
def test_edge_scores_of_the_wrong_shape_are_refused(shape):
    data = graph()
    with pytest.raises(InputError, match=rf"edge_score must have shape \[{data.num_edges}\]"):
        _make(data, edge_sparsity=0.5, edge_score=torch.zeros(shape))


def test_bad_arguments_are_refused():
    data = graph()
    with pytest.raises(BudgetError, match=r"edge_sparsity must be in \[0, 1\) \(got 1.2\)"):
        _make(data, edge_sparsity=1.2)
    with pytest.raises(BudgetError, match=r"weight_sparsity must be in"):
        _make(data, weight_sparsity=-0.1)
    with pytest.raises(InputError, match=r"steps must be a whole number of at least 0 \(got -1\)"):
        _make(data, steps=-1)
    with pytest.raises(BudgetError, match=r"leaves layer 'convs\.1\.lin\.weight' without"):
        _make(data, weight_sparsity=0.998)
    cached = nn.ModuleList(build("gcn", data).convs)
    cached[0].cached = True
    with pytest.raises(ModelError, match="cached=True"):
        Denoiser(cached, torch.optim.Adam(cached.parameters()), data, steps=1)
    lazy = GCN(-1, 8, 2)
    with pytest.raises(ModelError, match=r"run the model once on the graph before, e\.g\."):
        Denoiser(lazy, torch.optim.Adam(lazy.parameters()), data, steps=1)


def test_a_refused_budget_leaves_the_model_as_it_was():
    data = graph()
    model = build("gcn", data)
    before = clone_state(model)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(BudgetError):
        Denoiser(model, optimizer, data, steps=1, weight_sparsity=0.998)
    assert states_equal(before, model.state_dict())


def test_a_graph_without_edges_can_be_searched_for_weights():
    data = graph()
    data.edge_index = data.edge_index[:, :0]
    loop = Loop(data=data, weight_sparsity=0.5, edge_sparsity=0.5)
    assert loop.pruner.edge_index.shape == (2, 0)
    loop.run(2)
    assert loop.pruner.weight_mask.sparsity == pytest.approx(0.5, abs=0.01)


def test_detach_lets_the_model_train_densely_again():
    loop = Loop(weight_sparsity=0.9)
    loop.pruner.detach()
    loop.train()
    name, keep = next(iter(loop.pruner.weight_mask.items()))
    assert torch.count_nonzero(loop.model.get_parameter(name)) > int(keep.sum())


def test_the_model_is_still_a_plain_module():
    loop = Loop()
    loop.run(4)
    twin = build("gcn", loop.data)
    twin.load_state_dict(loop.model.state_dict())
    assert list(twin.state_dict()) == list(loop.model.state_dict())
    copy.deepcopy(loop.model)


def test_the_example_of_the_documentation_runs():
    data = graph()
    model = build("gcn", data)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()

    def loss(edge_index, edge_weight=None):
        out = model(data.x, edge_index, edge_weight)
        return criterion(out[data.train_mask], data.y[data.train_mask])

    @torch.no_grad()
    def validate():
        model.eval()
        right = model(data.x, pruner.edge_index).argmax(1) == data.y
        model.train()
        return float(right[data.val_mask].float().mean())

    pruner = fastglt.Denoiser(
        model, optimizer, data, edge_sparsity=0.5, weight_sparsity=0.9, steps=30
    )
    for _ in range(30):
        value = loss(pruner.edge_index)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        pruner.step(score=loss, metric=validate)
    ticket = pruner.ticket()
    assert ticket.metrics["val_search"] > 0.5
    assert ticket.num_edges_kept == data.num_edges - 2 * num_removed(data.num_edges // 2, 0.5)


def test_an_initialisation_that_training_overwrites_is_refused():
    model = build("gcn", graph())
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(InputError, match="take a copy"):
        Denoiser(model, optimizer, graph(), steps=1, init=model.state_dict())


def test_the_ticket_keeps_the_given_initialisation():
    data = graph()
    model = build("gcn", data)
    init = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    optimizer = torch.optim.Adam(model.parameters())
    ticket = Denoiser(model, optimizer, data, steps=1, weight_sparsity=0.5, init=init).ticket()
    assert states_equal(ticket.init_state, init)


def test_weights_cannot_be_regrown_after_their_gradients_are_gone():
    loop = Loop()
    for _ in range(QUICK.interval - 1):
        loop.train()
        loop.optimizer.zero_grad()
        loop.pruner.step(score=loop.loss)
    loop.train()
    loop.optimizer.zero_grad()
    with pytest.raises(InputError, match="before the next zero_grad"):
        loop.pruner.step(score=loop.loss)


def test_an_optimizer_without_all_prunable_weights_is_refused():
    model = build("gcn", graph())
    optimizer = torch.optim.Adam(model.convs[0].parameters())
    with pytest.raises(InputError, match=r"'convs\.1\.lin\.weight'"):
        Denoiser(model, optimizer, graph(), steps=1)


@pytest.mark.parametrize("value", [torch.tensor(float("nan")), 1.0])
def test_a_score_that_is_no_usable_tensor_is_refused(value):
    with pytest.raises(InputError, match="score must"):
        Loop().run(3, score=lambda *_: value)


def test_a_graph_out_of_range_and_an_unreachable_warm_up_are_refused():
    data = graph()
    with pytest.raises(InputError, match="warmup_events must be at most 0"):
        _make(data, config=DenoiseConfig(warmup_start=0.5, warmup_events=2))
    data.edge_index = data.edge_index.clone()
    data.edge_index[0, 0] = -1
    with pytest.raises(GraphError, match="column 0"):
        _make(data)


@pytest.mark.parametrize("config", [QUICK, DenoiseConfig(interval=4, accumulation=4)])
def test_gradients_of_pruned_weights_are_read_only_when_it_says_so(config):
    whole, partial = Loop(config=config), Loop(config=config)
    for loop in (whole, partial):
        loop.model.eval()  # both without dropout
    said = []
    for _ in range(12):
        said.append(partial.pruner.reads_gradients)
        for loop in (whole, partial):
            loop.train()
        if not said[-1]:
            for name, keep in partial.pruner.weight_mask.items():
                partial.model.get_parameter(name).grad.masked_fill_(~keep, torch.nan)
        for loop in (whole, partial):
            loop.pruner.step(score=loop.loss)
    assert states_equal(whole.pruner.weight_mask.masks, partial.pruner.weight_mask.masks)
    to_swap = [-step % config.interval for step in range(1, 13)]
    last_swap = max(event.step for event in whole.pruner.history)
    assert said == [
        away < config.accumulation and step + away <= last_swap
        for step, away in zip(range(1, 13), to_swap, strict=True)
    ]


def test_no_gradients_are_read_where_no_weights_are_pruned():
    loop = Loop(edge_sparsity=0.4, weight_sparsity=0.0)
    assert not any(loop.pruner.reads_gradients for _ in loop.run(12))


def test_it_has_converged_once_the_share_is_less_than_one_component():
    config = DenoiseConfig(interval=1, accumulation=1, alpha=0.1)
    loop = Loop(steps=40, config=config, edge_sparsity=0.9, weight_sparsity=0.9)
    converged = []
    for _ in range(40):
        loop.run(1)
        converged.append(loop.pruner.converged)
    swapped = [event.edges_swapped + event.weights_swapped for event in loop.pruner.history]
    first = converged.index(True)
    assert swapped[0] > 0
    assert not any(swapped[first:])
    assert all(swapped[:first])
    assert all(converged[first:])
    assert loop.pruner.num_steps == 40


def test_it_has_not_converged_while_sparsity_warms_up():
    config = DenoiseConfig(interval=1, accumulation=1, alpha=0.0, warmup_start=0.5, warmup_events=5)
    loop = Loop(steps=12, config=config)
    for step in range(1, 7):
        loop.run(1)
        assert loop.pruner.num_steps == step
        assert loop.pruner.converged == (step >= 5)


def test_swaps_without_better_masks_are_counted():
    loop = Loop(steps=20, config=DenoiseConfig(interval=2, accumulation=1))
    counts = []
    for metric in (None, 0.2, None, 0.3, None, 0.1, None, 0.3, None, 0.4):
        loop.run(1, metric=metric)
        counts.append(loop.pruner.events_since_best)
    # Masks are validated before the swaps of steps 2, 4, 6, 8 and 10; an equal metric is no better.
    assert counts == [0, 0, 0, 0, 0, 1, 1, 2, 2, 0]
