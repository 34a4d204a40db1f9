"""A rule for the edges of unseen nodes, learned on nodes that the search sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.masks import EdgeMask
from fastglt.ticket.edge_rule import PROPERTIES, NewEdges, ranked_rule
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import predict
from fastglt.training.task import Task
from fastglt.training.teacher import Teacher

HIDDEN_SHARE = 0.3
"""Share of the nodes that are taken for unseen ones."""
DRAWS = 2
"""How often such nodes are drawn."""
STEPS = {
    "similarity": (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0),
    "noise": (0.25, 0.5, 1.0, 2.0),
    "inverse_degree": (0.5, 1.0),
    "degree": (0.0, 0.5, 2.0),
}
"""Weights that are tried, one property after the other, starting from ``degree`` alone."""


@dataclass(frozen=True)
class _Trial:
    """Nodes that are taken for unseen: their edges are left to the rule, others are as masked."""

    unseen: Tensor
    new: NewEdges
    keep: Tensor


def learned_rule(
    model: nn.Module,
    task: Task,
    data: Data,
    plain: Data,
    mask: EdgeMask,
    sparsity: float,
    teacher: Teacher | None,
    seed: int,
) -> dict[str, Any]:
    """The rule that keeps predictions of unseen nodes nearest to those on the whole graph.

    Some of the nodes are taken for unseen, all of their edges for new ones, and these are removed
    by one rule after the other. No labels are needed.

    Args:
        model: The pruned model as the search left it.
        task: Calls it.
        data: What the search sees, as the model is called on it.
        plain: The same graph with dense features, for the properties of edges.
        mask: Its kept edges.
        sparsity: Share of the new edges to be removed.
        teacher: Whose predictions on the whole graph are to be met; the model's own without one.
        seed: Decides which nodes are taken.

    Returns:
        dict[str, Any]: A ranked rule.
    """
    generator = torch.Generator().manual_seed(seed)
    if teacher is None:
        with torch.no_grad():
            encoded = task.encode(model.eval(), data)
        teacher = Teacher(encoded, model=model)
    reader = nn.Identity() if teacher.model is None else teacher.model
    with torch.no_grad():
        target = task.target(reader, teacher.encoded, data)
    trials = [_trial(plain, mask, generator) for _ in range(DRAWS)]

    def loss(weights: dict[str, float]) -> float:
        total = 0.0
        for trial in trials:
            kept = kept_view(data, trial.keep & trial.new.kept(weights, sparsity))
            out = predict(task, model, kept)[trial.unseen]
            total += float(task.guidance(out, target[trial.unseen], teacher.temperature))
        return total

    best = dict.fromkeys(PROPERTIES, 0.0) | {"degree": 1.0}
    lowest = loss(best)
    for name, values in STEPS.items():
        if name == "similarity" and plain.get("x") is None:
            continue
        start = dict(best)
        for value in values:
            weights = start | {name: value}
            found = loss(weights)
            if found < lowest:
                best, lowest = weights, found
    return ranked_rule(sparsity, **best)


def _trial(data: Data, mask: EdgeMask, generator: torch.Generator) -> _Trial:
    unseen = torch.rand(int(data.num_nodes), generator=generator) < HIDDEN_SHARE
    unseen = unseen.to(data.edge_index.device)
    new = unseen[data.edge_index[0]] | unseen[data.edge_index[1]]
    return _Trial(unseen, NewEdges(data, new), mask.edges | new)
