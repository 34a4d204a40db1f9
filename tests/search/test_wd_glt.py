from __future__ import annotations

import pytest
import torch

from fastglt.errors import InputError
from fastglt.search import wd_glt
from fastglt.search.wasserstein import sinkhorn_distance
from fastglt.search.wd_glt import class_distance
from fastglt.training.tasks import LinkPrediction
from search.contexts import search_with
from training.test_link_prediction import _links


def _generator():
    return torch.Generator().manual_seed(0)


def test_the_distance_is_summed_over_the_predicted_classes():
    out = torch.randn(30, 3, generator=_generator())
    label, probability = out.argmax(dim=1), out.softmax(dim=1)
    expected = sum(
        sinkhorn_distance(probability[label == c], probability[label != c]) for c in range(3)
    )
    torch.testing.assert_close(class_distance(out, _generator()), expected)


def test_a_class_that_is_never_or_always_predicted_has_no_distance():
    out = torch.tensor([[5.0, 0, 0], [4, 0, 0]], requires_grad=True)
    assert float(class_distance(out, _generator())) == 0


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3, 2)])
def test_what_are_no_logits_is_refused(shape):
    with pytest.raises(InputError, match=r"one logit for each class and node \(got"):
        class_distance(torch.zeros(shape), _generator())


def test_links_have_no_classes():
    task = LinkPrediction()
    with pytest.raises(InputError, match="wd-glt"):
        search_with("wd-glt", data=task.prepare(_links()), objective=task)


def test_at_most_so_many_nodes_of_either_side_are_taken(monkeypatch):
    sizes = []

    def spy(left, right):
        sizes.append((len(left), len(right)))
        assert len(left.unique(dim=0)) == len(left)  # without replacement
        return left.sum()

    monkeypatch.setattr(wd_glt, "MAX_NODES", 20)
    monkeypatch.setattr(wd_glt, "sinkhorn_distance", spy)
    gap = 0.1 + torch.rand(100, generator=_generator())
    gap[:10] *= -1  # ten nodes of the first class, ninety of the second
    class_distance(torch.stack([torch.zeros(100), gap], dim=1), _generator())
    assert sizes == [(10, 20), (20, 10)]


def test_the_weight_of_the_distance_changes_the_search():
    settings = {"mask_epochs": 8, "patience": 0}
    first, second = (
        search_with("wd-glt", wasserstein_weight=weight, **settings)[1] for weight in (0.0, 5.0)
    )
    assert not torch.equal(first.edge_mask.keep, second.edge_mask.keep)
