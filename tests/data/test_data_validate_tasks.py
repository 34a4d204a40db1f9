"""What each task needs of a graph, and the forms of edges, are checked by key, position, value."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch, TemporalData
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.transforms import RandomLinkSplit

from fastglt.data import csbm, random_link_split
from fastglt.data.links import LINK_KEYS
from fastglt.data.validate import validate
from fastglt.errors import GraphError, UnknownNameError

N = 40
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")


def replaced(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.fixture
def data():
    return csbm(N, average_degree=4, num_features=6)


@pytest.fixture
def multilabel(data):
    data.y = (torch.rand(N, 5, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    return data


@pytest.fixture
def linked(data):
    return random_link_split(data, val=0.1, test=0.1)


@pytest.fixture
def batch():
    graphs = [
        csbm(12, num_classes=2, average_degree=3, num_features=3, seed=seed) for seed in range(6)
    ]
    for number, graph in enumerate(graphs):
        graph.y = torch.tensor([number % 2])
        del graph.train_mask, graph.val_mask, graph.test_mask
    result = Batch.from_data_list(graphs)
    part = torch.arange(6) % 3
    result.train_mask, result.val_mask, result.test_mask = part == 0, part == 1, part == 2
    return result


def test_there_are_four_tasks(data):
    with pytest.raises(UnknownNameError, match=r"unknown task 'regression'.*available: graph-"):
        validate(data, "regression")


def test_several_labels_may_be_missing_one_by_one(multilabel):
    assert validate(multilabel, "multilabel-node-classification") == 5
    multilabel.y[3, 1] = float("nan")
    assert validate(multilabel, "multilabel-node-classification") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: replaced(y, (4, 2), 0.5), r"0, 1 or NaN .*\(got 0.5 at node 4, label 2\)"),
        (lambda y: y.long(), r"data.y must be floating point \(got torch.int64\)"),
        (lambda y: y[1:], r"data.y must have shape \[40, num_labels\] \(got \[39, 5\]\)"),
        (lambda y: y[:, 0], r"data.y must have shape \[40, num_labels\] \(got \[40\]\)"),
    ],
)
def test_malformed_labels_are_refused(change, message, multilabel):
    multilabel.y = change(multilabel.y)
    with pytest.raises(GraphError, match=message):
        validate(multilabel, "multilabel-node-classification")


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float])
def test_several_labels_in_the_task_for_one_are_sent_to_their_own(dtype, multilabel):
    multilabel.y = multilabel.y.to(dtype)
    message = r"shape \[40\] .*\(got \[40, 5\]\).*data\.y\.float\(\).*multilabel-node-classif"
    with pytest.raises(GraphError, match=message):
        validate(multilabel, "node-classification")


@pytest.mark.parametrize("split_labels", [True, False])
@pytest.mark.parametrize("task", ["link-prediction", "node-classification"])
def test_one_graph_of_pyg_random_link_split_is_told_from_a_missing_key(task, split_labels, data):
    del data.y, data.train_mask, data.val_mask, data.test_mask
    split = RandomLinkSplit(is_undirected=True, split_labels=split_labels)
    message = r"got (pos_)?edge_label_index, .*fastglt\.data\.random_link_split"
    with pytest.raises(GraphError, match=message):
        validate(split(data)[0], task)


def test_link_prediction_has_no_classes(linked):
    assert validate(linked, "link-prediction") == 0


@pytest.mark.parametrize("key", LINK_KEYS)
def test_every_kind_of_label_edge_is_checked(key, linked):
    pairs = linked[key]
    for change, message in (
        (pairs.float(), "must be torch.int64"),
        (pairs.t(), r"must have shape \[2, num_label_edges\]"),
        (pairs[:, :0], "must hold at least one pair of nodes"),
        (replaced(pairs, (1, 1), N), "got 40 at row 1, column 1"),
    ):
        linked[key] = change
        with pytest.raises(GraphError, match=rf"data\.{key} {message}|data\.{key} .*{message}"):
            validate(linked, "link-prediction")
    del linked[key]
    with pytest.raises(GraphError, match=f"{key} is missing"):
        validate(linked, "link-prediction")


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("form", ["edge_index", "adj_t"])
def test_positives_of_the_evaluation_may_not_carry_messages(part, form, linked):
    key = f"{part}_pos_edge_label_index"
    pairs = linked[key]
    linked.edge_index = torch.cat([linked.edge_index, pairs[:, 3:5].flip(0), pairs[:, 3:5]], dim=1)
    if form == "adj_t":
        source, target = linked.edge_index
        adj_t = torch.zeros(N, N).index_put((target, source), torch.tensor(1.0))
        linked.adj_t = adj_t.to_sparse_csr()
        del linked.edge_index
    source, target = pairs[:, 3].tolist()
    found = rf"\(got \({source}, {target}\) at column 3, 2 in all\)"
    message = rf"{key} must not be among the message-passing edges {found}"
    with pytest.raises(GraphError, match=message):
        validate(linked, "link-prediction")


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("val_pos", "train_pos"),
        ("test_pos", "train_pos"),
        ("test_pos", "val_pos"),
        ("val_neg", "val_pos"),
        ("test_neg", "test_pos"),
    ],
)
def test_a_pair_has_one_split_and_one_label_whichever_way_it_is_written(second, first, linked):
    first, second = (f"{name}_edge_label_index" for name in (first, second))
    u, v = linked[second][:, 2].tolist()
    linked[first] = torch.cat([linked[first], linked[second][:, 2:4].flip(0)], dim=1)
    message = rf"data\.{second} must share no pair with data\.{first} \(got \({u}, {v}\) at col"
    with pytest.raises(GraphError, match=message + "umn 2, 2 in all"):
        validate(linked, "link-prediction")
    linked.repeated_links = True
    assert validate(linked, "link-prediction") == 0


def test_a_pair_may_be_listed_in_both_directions_in_its_split(linked):
    for key in LINK_KEYS:
        linked[key] = torch.cat([linked[key], linked[key].flip(0)], dim=1)
    assert validate(linked, "link-prediction") == 0


def test_on_a_directed_graph_the_opposite_pair_is_another_one(linked):
    linked.edge_index = linked.train_pos_edge_label_index
    linked.val_neg_edge_label_index = linked.val_pos_edge_label_index.flip(0)
    assert validate(linked, "link-prediction") == 0
    linked.val_neg_edge_label_index = linked.val_pos_edge_label_index
    with pytest.raises(GraphError, match=r"val_neg_edge_label_index must share no pair"):
        validate(linked, "link-prediction")


def test_on_a_directed_graph_the_opposite_edge_is_another_one(linked):
    linked.edge_index = linked.val_pos_edge_label_index.flip(0)
    assert validate(linked, "link-prediction") == 0


def test_a_batch_of_graphs_has_labels_and_masks_a_graph(batch):
    assert validate(batch, "graph-classification") == 2
    batch.y = torch.rand(6, 3).round()
    assert validate(batch, "graph-classification") == 3
    batch.x = batch.x.long()
    assert validate(batch, "graph-classification") == 3


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("y", lambda b: b.y[1:], r"data.y must have shape \[6\] \(got \[5\]\)"),
        ("y", lambda b: replaced(b.y, 2, -1), r"got -1 at graph 2"),
        ("val_mask", lambda b: b.train_mask, r"got graph 0 in both, 2 in all"),
        ("train_mask", lambda b: b.train_mask[1:], r"must have shape \[6\] \(got \[5\]\)"),
        ("train_mask", lambda b: b.train_mask & False, "must hold at least one graph"),
        ("batch", lambda b: replaced(b.batch, 7, 6), r"in \[0, 5\] .*\(got 6 at node 7\)"),
    ],
)
def test_malformed_batches_are_refused(key, change, message, batch):
    batch[key] = change(batch)
    with pytest.raises(GraphError, match=message):
        validate(batch, "graph-classification")


def test_a_single_graph_is_no_batch(data):
    with pytest.raises(GraphError, match=r"must be a torch_geometric.data.Batch \(got Data\)"):
        validate(data, "graph-classification")


def test_a_graph_without_features_must_state_its_nodes(data):
    del data.x
    with pytest.raises(GraphError, match=r"data\.x is missing; .* must state data\.num_nodes"):
        validate(data)
    data.num_nodes = N
    assert validate(data) == 4
    data.num_nodes = 10
    with pytest.raises(GraphError, match=r"in \[0, 9\] for 10 nodes"):
        validate(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: replaced(a, (11, 2), float("nan")), "got nan at edge 11, column 2"),
        (lambda a: a[1:], r"edge_attr must have shape \[160, num_edge_features\] \(got \[159, 3\]"),
        (lambda a: a[:, 0], r"use data.edge_attr.unsqueeze\(-1\)"),
    ],
)
def test_malformed_edge_attributes_are_refused(change, message, data):
    data.edge_attr = torch.ones(data.num_edges, 3)
    assert validate(data) == 4
    data.edge_attr = change(data.edge_attr)
    with pytest.raises(GraphError, match=message):
        validate(data)


def test_an_edge_index_of_pyg_is_checked_like_a_tensor(data):
    edges = data.edge_index
    data.edge_index = EdgeIndex(edges, sparse_size=(N, N))
    assert validate(data) == 4
    data.edge_index = EdgeIndex(replaced(edges, (0, 3), N))
    with pytest.raises(GraphError, match="got 40 at row 0, column 3"):
        validate(data)
    data.edge_index = EdgeIndex(edges.int())
    with pytest.raises(GraphError, match=r"must be torch.int64 \(got torch.int32\)"):
        validate(data)


class SparseTensor:
    """Stands for a class that cannot be installed here; only its name is looked at."""


SparseTensor.__module__ = "torch_sparse.tensor"


@pytest.mark.parametrize(
    ("adj_t", "message"),
    [
        (torch.eye(N)[1:].to_sparse_csr(), r"shape \[num_nodes, num_nodes\] \(got \[39, 40\]\)"),
        (torch.eye(N + 1).to_sparse_csr(), r"must have shape \[40, 40\] \(got \[41, 41\]\)"),
        (torch.eye(N).to_sparse_csc(), r"must be sparse CSR \(got torch.sparse_csc\)"),
        (torch.eye(N), r"must be sparse CSR \(got torch.strided\)"),
        (torch.eye(N).long().to_sparse_csr(), "one floating point number per edge"),
        (torch.eye(N).to_sparse_csr(), None),
        (
            replaced(torch.eye(N), (4, 4), float("nan")).to_sparse_csr(),
            "adj_t must be finite .got nan at stored value 4",
        ),
        (SparseTensor(), "native sparse tensor of torch .got torch_sparse.SparseTensor"),
        ("adjacency", r"must be a torch.Tensor \(got str\)"),
    ],
)
def test_a_sparse_adjacency_is_checked(adj_t, message, data):
    del data.edge_index
    data.adj_t = adj_t
    if message is None:
        assert validate(data) == 4
        return
    with pytest.raises(GraphError, match=message):
        validate(data)


@pytest.mark.parametrize("key", ["edge_weight", "edge_attr"])
def test_what_belongs_to_edges_has_no_order_beside_a_matrix(key, data):
    del data.edge_index
    data.adj_t = torch.eye(N).to_sparse_csr()
    data[key] = torch.ones(N)
    with pytest.raises(GraphError, match=f"data.{key} must be absent beside adj_t"):
        validate(data)


def test_a_temporal_graph_is_refused():
    events = TemporalData(src=torch.arange(3), dst=torch.arange(3), t=torch.arange(3))
    with pytest.raises(GraphError, match=r"static graph \(got TemporalData\)"):
        validate(events)
