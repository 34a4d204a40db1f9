"""What edges are scored by when masks are cut and denoised, by name.

To add a score, write a function and enter it in :data:`EDGE_SCORES`, and its name in
:data:`fastglt.settings.EDGE_SCORES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt import scores
from fastglt.errors import InputError
from fastglt.gating import edge_gradient, gate_gradient, unit_gates
from fastglt.search.base import SearchContext
from fastglt.settings import GIVEN
from fastglt.training.known_graph import kept_view
from fastglt.training.ranks import Ranks
from fastglt.training.teacher import Objective

DRAWS = 8
"""Random graphs that edges are scored on before the one-shot cut, by ``divergence``."""


@dataclass(frozen=True)
class Graph:
    """What edges are scored on.

    Attributes:
        context: What the method was given.
        reference: Whose predictions on the whole graph those on the kept one are to resemble.
        keep: ``[num_groups]`` bool, the kept edges.
        gate: ``[num_edges]`` unit gates of the kept edges and zeros of the others, with gradients;
            ``None`` before the one-shot cut, where all are kept.
    """

    context: SearchContext
    reference: Objective | None
    keep: Tensor
    gate: Tensor | None


def edge_scores(names: str, graph: Graph) -> Tensor:
    """``[num_groups]`` scores, higher = keep; the sum of ranks where several are named.

    Args:
        names: Names in :data:`EDGE_SCORES`, with a ``+`` between them.
        graph: What is scored.

    Raises:
        InputError: If features count and there are none.
        ModelError: If gradients count and the model cannot be differentiated by its edges.
    """
    Ranks.current().average_statistics(graph.context.model)
    chosen = [EDGE_SCORES[name](graph) for name in names.split("+")]
    return chosen[0] if len(chosen) == 1 else torch.stack(list(map(scores.ranks, chosen))).sum(0)


def scoring_loss(context: SearchContext, gate: Tensor) -> Tensor:
    """The loss in eval mode on every edge of the graph, with ``[num_edges]`` gates."""
    task, model = context.objective.task, context.model.eval()

    def loss(data: Data, gate: Tensor) -> Tensor:
        return context.objective(task.forward(model, data, gate), data)

    return task.on_scored(context.data, context.generator, gate, loss)


@torch.no_grad()
def _influence(graph: Graph) -> Tensor:
    """Influence on the teacher's predictions, else on the model's on the kept graph."""
    context, reference = graph.context, graph.reference
    task, teacher = context.objective.task, None if reference is None else reference.teacher
    if teacher is None or context.objective.teacher is None:
        data = context.data
        if graph.gate is not None:
            data = kept_view(data, context.groups.to_edges(graph.keep, True))
        encoded = task.encode(context.model.eval(), data)
    else:
        encoded = teacher.encoded
    return scores.influence(task.profile(encoded), context.groups, graph.keep)


def _divergence(graph: Graph) -> Tensor:
    """How much an edge brings predictions near the reference's."""
    context, reference = graph.context, graph.reference
    if reference is None:
        return _unit_gate(graph)
    if graph.gate is None:
        return _worth_on_random_graphs(context, reference)
    loss = _distance(context, context.model, reference, graph.gate)
    return -gate_gradient(loss, graph.gate, context.groups)


def _agreement(graph: Graph) -> Tensor:
    """1 where the reference predicts the same class at both ends."""
    context, reference = graph.context, graph.reference
    teacher = None if reference is None else reference.teacher
    classes = None if teacher is None else context.objective.task.classes(teacher.encoded)
    if classes is None:
        return torch.zeros(context.groups.num_groups, device=context.groups.index.device)
    return scores.agreement(classes, context.groups)


def _unit_gate(graph: Graph) -> Tensor:
    """How much an edge lowers the loss, and its degrees."""
    context, groups = graph.context, graph.context.groups
    if graph.gate is not None:
        gradient = gate_gradient(scoring_loss(context, graph.gate), graph.gate, groups)
    else:

        def loss(_: Tensor, edge_weight: Tensor) -> Tensor:
            return scoring_loss(context, edge_weight)

        gradient = edge_gradient(loss, context.data.edge_index, groups, graph.keep)
    return scores.unit_gate(gradient, groups, graph.keep)


def _degree(graph: Graph) -> Tensor:
    """High between nodes of low degree on the kept graph."""
    return scores.inverse_degrees(graph.context.groups, graph.keep)


def _similarity(graph: Graph) -> Tensor:
    """High between nodes of like features."""
    x = graph.context.data.get("x")
    if x is None:
        raise InputError("edge_score 'similarity' goes by features: the graph must have data.x")
    return scores.similarity(x, graph.context.groups.ends)


EDGE_SCORES: dict[str, Callable[[Graph], Tensor]] = {
    "influence": _influence,
    "divergence": _divergence,
    "agreement": _agreement,
    "unit-gate": _unit_gate,
    "degree": _degree,
    "similarity": _similarity,
}
"""Every score by the name that people type."""


def _distance(
    context: SearchContext,
    model: nn.Module,
    reference: Objective,
    gate: Tensor,
    portion: tuple[int, int] = (0, 1),
) -> Tensor:
    """How far predictions with ``[num_edges]`` gates are from the reference's without, a scalar."""
    task, model = context.objective.task, model.eval()

    def loss(data: Data, gate: Tensor) -> Tensor:
        return reference.divergence(task.forward(model, data, gate), data)

    return task.on_scored(context.data, context.generator, gate, loss, portion, everyone=True)


def _worth_on_random_graphs(context: SearchContext, reference: Objective) -> Tensor:
    """``[num_groups]``: how much an edge brings the reference's predictions back, on average.

    The negative gradient of the divergence on :data:`DRAWS` random graphs of the sparsity asked
    for, much as a Shapley value averages over coalitions of a size. On the whole graph the
    divergence is 0, and so is its gradient.
    """
    groups, sparsity = context.groups, context.settings.edge_sparsity
    # A teacher of the caller's may work in another way than the model that is pruned.
    teacher = None if context.settings.teacher == GIVEN else reference.teacher
    model = context.model if teacher is None or teacher.model is None else teacher.model
    total = torch.zeros(groups.num_groups, device=groups.index.device)
    for draw in range(DRAWS):
        noise = torch.rand(groups.num_groups, generator=context.generator)
        gate = unit_gates(groups, (noise >= sparsity).to(total.device))
        with torch.enable_grad():
            loss = _distance(context, model, reference, gate, (draw, DRAWS))
        total -= gate_gradient(loss, gate, groups)
    return total
