from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Data

from fastglt.errors import InputError, ModelError, UnknownNameError
from fastglt.training.tasks import LinkPrediction
from fastglt.training.tasks.link_prediction import SMALLEST_NUM_BATCHES
from fastglt.training.tasks.negatives import pair_keys
from helpers import build, graph

TASK = LinkPrediction()


def _links(keep_every: int = 4) -> Data:
    """A graph whose undirected pairs are split: message passing, validation, test."""
    data = graph()
    one_way = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    part = torch.arange(one_way.size(1)) % keep_every
    train = one_way[:, part > 1]
    result = Data(x=data.x, edge_index=torch.cat([train, train.flip(0)], dim=1))
    result.train_pos_edge_label_index = train
    joined = torch.zeros(90, 90, dtype=torch.bool)
    joined[tuple(data.edge_index)] = True
    absent = (~joined).nonzero().t()
    generator = torch.Generator().manual_seed(0)
    for split, rest in (("val", 0), ("test", 1)):
        result[f"{split}_pos_edge_label_index"] = one_way[:, part == rest]
        size = (int((part == rest).sum()) + 3 * rest,)
        drawn = torch.randint(absent.size(1), size, generator=generator)
        result[f"{split}_neg_edge_label_index"] = absent[:, drawn]
    return result


class Recorder(nn.Module):
    """Remembers the edges that it was called with; embeddings are the features."""

    def forward(self, x, edge_index):
        self.edge_index = edge_index
        return x


class Bilinear(Recorder):
    """Has a decoder of its own."""

    def __init__(self, size):
        super().__init__()
        self.lin = nn.Linear(size, size)

    def decode(self, z, edge_label_index):
        return (self.lin(z[edge_label_index[0]]) * z[edge_label_index[1]]).sum(dim=1)


def _batch(data, seed=0, task=TASK):
    return task.batch(task.prepare(data), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_positives_of_a_batch_are_no_messages_and_all_others_are(seed):
    data = _links()
    batch = _batch(data, seed)
    pairs, label = batch.batch_edge_label_index, batch.batch_edge_label
    asked = pair_keys(pairs[:, label == 1], 90)
    assert torch.isin(asked, pair_keys(data.train_pos_edge_label_index, 90)).all()
    messages = pair_keys(batch.edge_index, 90)
    assert not torch.isin(asked, messages).any()
    others = ~torch.isin(pair_keys(data.edge_index, 90), asked)
    assert torch.equal(batch.edge_index, data.edge_index[:, others])


def test_positives_listed_in_both_directions_are_taken_out_too():
    data = _links()
    both = data.train_pos_edge_label_index
    data.train_pos_edge_label_index = torch.cat([both.flip(0), both], dim=1)
    batch = _batch(data)
    positive = batch.batch_edge_label_index[:, batch.batch_edge_label == 1]
    assert not torch.isin(pair_keys(positive, 90), pair_keys(batch.edge_index, 90)).any()


def test_positives_may_stay_among_the_messages_if_asked():
    data = _links()
    batch = _batch(data, task=LinkPrediction(keep_positives=True))
    assert torch.equal(batch.edge_index, data.edge_index)


def test_pruned_positives_are_still_learned():
    data = _links()
    data.edge_index = data.edge_index[:, :20]
    batch = _batch(data)
    assert int(batch.batch_edge_label.sum()) > 1
    assert batch.edge_index.size(1) <= 20


def test_as_many_negatives_that_are_no_training_positives():
    data = _links()
    batch = _batch(data)
    label = batch.batch_edge_label
    negative = pair_keys(batch.batch_edge_label_index[:, label == 0], 90)
    assert int(label.sum()) == len(negative)
    assert not torch.isin(negative, pair_keys(data.train_pos_edge_label_index, 90)).any()


def test_the_seed_draws_the_batch():
    data = _links()
    first, same, other = (_batch(data, seed).batch_edge_label_index for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_an_epoch_sees_about_all_positives_and_leaves_most_messages():
    data = TASK.prepare(_links())
    positives = data.train_pos_edge_label_index.size(1)
    size = int(TASK.batch(data, torch.Generator()).batch_edge_label.sum())
    assert TASK.num_batches(data) * size >= positives
    assert size <= -(-positives // SMALLEST_NUM_BATCHES)
    large = LinkPrediction(batch_size=10**6)
    assert large.num_batches(data) == 1


def test_scoring_sees_every_edge():
    data = _links()
    scored = TASK.scored(TASK.prepare(data), torch.Generator().manual_seed(0))
    assert torch.equal(scored.edge_index, data.edge_index)
    assert scored.batch_edge_label.numel() > 0


def test_logits_are_dot_products_unless_the_model_decodes():
    data = _links()
    pairs = data.val_pos_edge_label_index
    plain = TASK.forward(Recorder(), data)[: pairs.size(1)]
    expected = torch.stack([data.x[u] @ data.x[v] for u, v in pairs.t().tolist()])
    assert torch.allclose(plain, expected, atol=1e-5)
    model = Bilinear(12)
    own = TASK.forward(model, data)[: pairs.size(1)]
    assert torch.allclose(own, model.decode(data.x, pairs), atol=1e-5)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "hits@5"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_each_split_is_measured_on_its_own_pairs(metric, split):
    task, data = LinkPrediction(metric), _links()
    sizes = [
        data[f"{part}_{kind}_edge_label_index"].size(1)
        for part in ("val", "test")
        for kind in ("pos", "neg")
    ]
    best = torch.cat([torch.full((size,), 1.0 - 2 * (i % 2)) for i, size in enumerate(sizes)])
    assert task.metric(best, data, split) == 1
    assert task.metric(-best, data, split) <= 0.5
    start = sum(sizes[:2]) if split == "test" else 0
    mine = slice(start, start + sum(sizes[:2] if split == "val" else sizes[2:]))
    other = best.clone()
    other[mine] *= -1
    assert task.metric(-other, data, split) == 1


def test_the_loss_is_binary_cross_entropy_over_the_batch():
    batch = _batch(_links())
    out = torch.randn(batch.batch_edge_label.shape, generator=torch.Generator().manual_seed(0))
    signs = 2 * batch.batch_edge_label - 1
    expected = -F.logsigmoid(signs * out).mean()
    assert float(TASK.loss(out, batch)) == pytest.approx(float(expected), rel=1e-5)


def test_training_without_the_guard_reads_off_the_messages():
    """With a batch's positives left in, one-hot features make the training loss a look-up."""
    data = _links()
    leaky, sound = LinkPrediction(keep_positives=True, batch_size=40), LinkPrediction(batch_size=40)
    adjacency = torch.zeros(90, 90)
    auc = {}
    for name, task in (("leaky", leaky), ("sound", sound)):
        batch = _batch(data, task=task)
        adjacency.zero_()
        adjacency[batch.edge_index[0], batch.edge_index[1]] = 1
        pairs, label = batch.batch_edge_label_index, batch.batch_edge_label
        read_off = adjacency[pairs[0], pairs[1]]
        auc[name] = float(read_off[label == 1].mean())
    assert auc == {"leaky": 1.0, "sound": 0.0}


@pytest.mark.parametrize("metric", ["accuracy", "hits@0", "hits"])
def test_unknown_metrics_are_refused(metric):
    with pytest.raises(UnknownNameError, match="metric"):
        LinkPrediction(metric)


def test_a_batch_size_below_1_is_refused():
    with pytest.raises(InputError, match=r"batch_size.*got 0"):
        LinkPrediction(batch_size=0)


def test_a_graph_that_was_not_prepared_is_refused():
    with pytest.raises(InputError, match="prepare"):
        LinkPrediction(keep_positives=True).batch(_links(), torch.Generator())


def test_outputs_of_the_wrong_shape_are_described():
    data = _links()
    with pytest.raises(ModelError, match=r"node embeddings.*got torch.float32 \(3,\)"):
        TASK.check_output(torch.zeros(3), data, 0)
    TASK.check_output(TASK.forward(build("gcn", data), data), data, 0)
