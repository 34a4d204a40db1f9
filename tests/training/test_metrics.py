"""Metrics against scikit-learn and OGB's own evaluators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fastglt.errors import InputError
from fastglt.training import metrics

SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=12).map(
    lambda values: torch.tensor(values, dtype=torch.float32) / 4
)


def _truth(positive, negative):
    scores = torch.cat([positive, negative]).numpy()
    return [1] * len(positive) + [0] * len(negative), scores


@given(SCORES, SCORES)
@settings(deadline=None)
def test_area_and_precision_equal_scikit_learns_ties_included(positive, negative):
    truth, scores = _truth(positive, negative)
    assert metrics.roc_auc(positive, negative) == pytest.approx(roc_auc_score(truth, scores))
    expected = average_precision_score(truth, scores)
    assert metrics.average_precision(positive, negative) == pytest.approx(expected, abs=1e-6)


def test_scores_beyond_the_reach_of_a_sigmoid_are_no_ties():
    positive, negative = torch.tensor([2e4, 3e4]), torch.tensor([1e4])
    assert metrics.roc_auc(positive, negative) == 1
    assert metrics.average_precision(positive, negative) == 1
    assert metrics.average_precision(negative, positive) == pytest.approx(1 / 3)


@pytest.mark.parametrize("k", [1, 3, 20, 50])
def test_hits_equal_those_of_ogb(k):
    evaluator = pytest.importorskip("ogb.linkproppred").Evaluator(name="ogbl-ddi")
    evaluator.K = k
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        positive = torch.randint(8, (30,), generator=generator).float()
        negative = torch.randint(8, (40,), generator=generator).float()
        given_to = {"y_pred_pos": positive, "y_pred_neg": negative}
        expected = evaluator.eval(given_to)[f"hits@{k}"]
        assert metrics.hits_at(k, positive, negative) == pytest.approx(expected)


def test_mean_area_equals_that_of_ogb():
    evaluator = pytest.importorskip("ogb.nodeproppred").Evaluator(name="ogbn-proteins")
    generator = torch.Generator().manual_seed(0)
    out = torch.randn(60, evaluator.num_tasks, generator=generator)
    y = torch.randint(2, out.shape, generator=generator).float()
    y[:, 3] = 1  # one class only: not measured
    y[:7, 5] = torch.nan
    # OGB's evaluator of this dataset measures unlabelled entries out with a mask.
    expected = np.mean(
        [
            roc_auc_score(truth[~np.isnan(truth)], scores[~np.isnan(truth)])
            for truth, scores in zip(y.T.numpy(), out.T.numpy(), strict=True)
            if len(set(truth[~np.isnan(truth)])) == 2
        ]
    )
    assert metrics.mean_roc_auc(out, y) == pytest.approx(expected)
    whole = y.nan_to_num(0.0)
    official = evaluator.eval({"y_true": whole, "y_pred": out})["rocauc"]
    assert metrics.mean_roc_auc(out, whole) == pytest.approx(official)


def test_without_two_classes_there_is_no_area():
    with pytest.raises(InputError, match="both positives and negatives"):
        metrics.mean_roc_auc(torch.randn(4, 2), torch.ones(4, 2))
    with pytest.raises(InputError, match=r"got 3 and 0"):
        metrics.roc_auc(torch.randn(3), torch.randn(0))


@pytest.mark.parametrize(
    ("name", "k"), [("hits@20", 20), ("hits@1", 1), ("hits@0", None), ("hits", None), ("auc", None)]
)
def test_k_is_read_from_the_name(name, k):
    assert metrics.hits_k(name) == k


def test_accuracy_is_the_exact_share():
    out = torch.eye(3)[[0, 1, 2, 0, 1, 2, 2]]
    y = torch.tensor([0, 1, 2, 1, 1, 2, 2])
    assert metrics.accuracy(out, y) == 6 / 7
