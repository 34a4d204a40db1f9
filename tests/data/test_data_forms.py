"""A graph means the same in each form that PyG takes edges in."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.nn import GCN
from torch_geometric.transforms import ToSparseTensor

from fastglt.data import csbm
from fastglt.data.forms import like, message_edges, to_edge_index
from fastglt.data.validate import validate
from fastglt.errors import GraphError
from fastglt.gating import keep_edges

N = 50

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")


def directed_graph():
    data = csbm(N, average_degree=6, num_features=5)
    data.edge_index = data.edge_index[:, data.edge_index.sum(dim=0) % 3 > 0]
    return data


def in_form(data, form, weight=None):
    """The graph with its edges as an ``EdgeIndex`` or a CSR ``adj_t``, made by PyG itself."""
    data = data.clone()
    if form == "adj_t":
        data.edge_weight = torch.ones(data.num_edges) if weight is None else weight
        return ToSparseTensor(attr="edge_weight", layout=torch.sparse_csr)(data)
    order = "row" if form == "by row" else "col"
    data.edge_index, permutation = EdgeIndex(data.edge_index, sparse_size=(N, N)).sort_by(
        order, stable=True
    )
    if weight is not None:
        data.edge_weight = weight[permutation]
    return data


def output(model, data):
    edges = data.edge_index if data.get("adj_t") is None else data.adj_t
    return model(data.x, edges, edge_weight=data.get("edge_weight"))


FORMS = ["by row", "by col", "adj_t"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gcn_answers_the_same_in_every_form(form, weighted):
    data = directed_graph()
    weight = torch.rand(data.num_edges) + 0.5 if weighted else None
    model = GCN(5, 8, 2, 4).eval()
    expected = model(data.x, data.edge_index, edge_weight=weight)
    formed = in_form(data, form, weight)
    plain = to_edge_index(formed)
    assert validate(formed) == validate(plain) == 4
    assert type(plain.edge_index) is torch.Tensor
    assert ("edge_weight" in plain) == weighted
    assert torch.allclose(output(model, plain), expected, atol=1e-6)
    back = like(plain, formed)
    assert torch.allclose(output(model, back), expected, atol=1e-6)
    assert torch.equal(message_edges(back), plain.edge_index)


@pytest.mark.parametrize("form", FORMS)
def test_a_pruned_graph_comes_back_in_the_form_of_the_original(form):
    formed = in_form(directed_graph(), form)
    plain = to_edge_index(formed)
    keep = torch.arange(plain.num_edges) % 2 == 0
    pruned = keep_edges(plain, keep)
    back = like(pruned, formed)
    if form == "adj_t":
        assert back.adj_t.layout == torch.sparse_csr
        assert back.adj_t.shape == (N, N)
        assert "edge_index" not in back
    else:
        assert isinstance(back.edge_index, EdgeIndex)
        assert back.edge_index.sort_order == formed.edge_index.sort_order
        assert back.edge_index.sparse_size() == (N, N)
    assert torch.equal(message_edges(back), pruned.edge_index)
    model = GCN(5, 8, 2, 4).eval()
    expected = model(plain.x, plain.edge_index[:, keep])
    assert torch.allclose(output(model, back), expected, atol=1e-6)


def test_a_plain_graph_passes_through_as_it_is():
    data = directed_graph()
    assert to_edge_index(data) is data
    assert like(data, data) is data


def test_the_original_is_left_alone_and_the_order_is_that_of_the_matrix():
    formed = in_form(directed_graph(), "adj_t")
    before = formed.adj_t
    plain = to_edge_index(formed)
    assert formed.adj_t is before
    assert "adj_t" not in plain
    keys = plain.edge_index[1] * N + plain.edge_index[0]
    assert torch.equal(keys, keys.sort().values)
    assert plain.num_nodes == N


def test_parallel_edges_of_a_matrix_stay_apart():
    adj_t = torch.sparse_csr_tensor([0, 2, 2], [1, 1], [1.0, 1.0], size=(2, 2))
    formed = Data(x=torch.ones(2, 1), adj_t=adj_t)
    plain = to_edge_index(formed)
    assert plain.edge_index.tolist() == [[1, 1], [0, 0]]
    assert like(plain, formed).adj_t.values().tolist() == [1.0, 1.0]


def test_an_undirected_edge_index_may_not_lose_one_direction():
    data = csbm(N, average_degree=4)
    data.edge_index = EdgeIndex(data.edge_index, sparse_size=(N, N), is_undirected=True)
    plain = to_edge_index(data)
    both = keep_edges(plain, plain.edge_index.sum(dim=0) % 2 == 0)
    assert like(both, data).edge_index.is_undirected
    one = keep_edges(plain, torch.arange(plain.num_edges) > 0)
    with pytest.raises(GraphError, match=r"no longer fits its EdgeIndex: .* not undirected"):
        like(one, data)


def test_edge_attributes_have_no_place_beside_a_matrix():
    formed = in_form(directed_graph(), "adj_t")
    plain = to_edge_index(formed)
    plain.edge_attr = torch.ones(plain.num_edges, 2)
    with pytest.raises(GraphError, match="edge_attr must be absent beside adj_t"):
        like(plain, formed)
