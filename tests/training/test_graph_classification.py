from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINEConv, global_add_pool

from fastglt.errors import GraphError, InputError
from fastglt.training.tasks import GraphClassification


class Molecules(nn.Module):
    """A graph network with edge attributes and a pooled readout."""

    def __init__(self, outputs=2):
        super().__init__()
        self.conv = GINEConv(nn.Linear(3, 16), edge_dim=2)
        self.head = nn.Linear(16, outputs)

    def forward(self, x, edge_index, batch, edge_attr=None):
        hidden = self.conv(x, edge_index, edge_attr).relu()
        return self.head(global_add_pool(hidden, batch))


def molecules(count=20, labels=None) -> Batch:
    """Rings and paths of various sizes, told apart by their number of edges."""
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for place in range(count):
        size = 3 + place % 5
        source = torch.arange(size - place % 2)
        one_way = torch.stack([source, (source + 1) % size])
        edge_index = torch.cat([one_way, one_way.flip(0)], dim=1)
        y = torch.tensor([place % 2])
        if labels:
            y = torch.randint(2, (1, labels), generator=generator).float()
        graphs.append(
            Data(
                x=torch.rand(size, 3, generator=generator),
                edge_index=edge_index,
                edge_attr=torch.rand(edge_index.size(1), 2, generator=generator),
                y=y,
            )
        )
    batch = Batch.from_data_list(graphs)
    part = torch.arange(count) % 4
    batch.train_mask, batch.val_mask, batch.test_mask = part < 2, part == 2, part == 3
    return batch


def test_a_batch_holds_training_graphs_only_and_their_outputs_are_the_same():
    data, task, model = molecules(), GraphClassification(batch_size=4), Molecules().eval()
    whole = task.forward(model, data)
    seen = set()
    for seed in range(20):
        batch = task.batch(data, torch.Generator().manual_seed(seed))
        places = batch.position_in_whole
        seen |= set(places.tolist())
        assert data.train_mask[places].all()
        assert len(places) == 4
        assert torch.equal(batch.y, data.y[places])
        assert torch.allclose(task.forward(model, batch), whole[places], atol=1e-5)
        assert torch.equal(task.target(model, whole, batch), whole[places])
    assert len(seen) == int(data.train_mask.sum())
    assert task.num_batches(data) == 3


def test_loss_of_a_batch_is_that_of_its_graphs():
    data, task, model = molecules(), GraphClassification(batch_size=100), Molecules().eval()
    batch = task.batch(data, torch.Generator().manual_seed(0))
    whole = task.loss(task.forward(model, data), data, "train")
    assert torch.allclose(task.loss(task.forward(model, batch), batch), whole, atol=1e-5)


def test_metric_looks_at_its_split_only():
    data, task = molecules(), GraphClassification()
    out = torch.nn.functional.one_hot(data.y, 2).float()
    out[data.test_mask] = out[data.test_mask].flip(1)
    assert task.metric(out, data, "val") == 1
    assert task.metric(out, data, "test") == 0


def test_several_labels_are_measured_by_area():
    data, task = molecules(40, labels=3), GraphClassification("roc_auc")
    assert task.validate(data) == 3
    assert task.metric(data.y, data, "val") == 1
    assert float(task.loss(100 * (data.y - 0.5), data, "val")) < 1e-6


def test_the_metric_must_fit_the_labels():
    with pytest.raises(InputError, match=r"metric must be 'roc_auc'.*got 'accuracy'"):
        GraphClassification().validate(molecules(labels=3))
    with pytest.raises(InputError, match=r"batch_size.*got 0"):
        GraphClassification(batch_size=0)


def test_features_that_no_graph_can_be_taken_out_of_are_refused():
    data = molecules()
    data.x = data.x.to_sparse_csr()
    with pytest.raises(GraphError, match=r"data.x must be dense.*sparse_csr.*to_dense"):
        GraphClassification().validate(data)
