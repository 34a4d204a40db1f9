from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import MessagePassing

from conv_matrix import cases
from fastglt.gating import chunked_messages, chunks, lean_inference
from helpers import MODELS, build, graph


@torch.no_grad()
def _outputs(net, data, keyword):
    values = {} if keyword is None else {keyword: data[keyword]}
    return net(data.x, data.edge_index, **values)


@pytest.mark.parametrize("case", cases())
def test_chunks_change_nothing(case):
    net, data = case.net().eval(), case.graph()
    expected = _outputs(net, data, case.keyword)
    with chunked_messages(net, largest=1):
        found = _outputs(net, data, case.keyword)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert all(not {"propagate", "edge_updater"} & vars(module).keys() for module in net.modules())


def test_fewer_messages_are_held_at_a_time():
    held = []

    class Counted(MessagePassing):
        def forward(self, x, edge_index):
            return self.propagate(edge_index, x=x)

        def message(self, x_j):
            held.append(len(x_j))
            return x_j

    data = graph(num_nodes=60, average_degree=20.0)
    conv = Counted()
    expected = conv(data.x, data.edge_index)
    whole = held.pop()
    with chunked_messages(conv, largest=100):
        found = conv(data.x, data.edge_index)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert whole == data.num_edges == sum(held)
    assert max(held) <= 100


@pytest.mark.parametrize("name", sorted(MODELS))
def test_lean_inference_gives_what_the_model_gives(name, monkeypatch):
    monkeypatch.setattr(chunks, "LARGEST_CHUNK", 50)
    data = graph()
    model = build(name, data).double().eval()
    data.x = data.x.double()
    expected = _outputs(model, data, None)
    with lean_inference(model, data.edge_index):
        found = _outputs(model, data, None)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
