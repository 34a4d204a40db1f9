"""WD-GLT: UGS with a loss that drives the predicted classes apart."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fastglt.errors import InputError
from fastglt.search.base import SearchContext, register
from fastglt.search.soft_masks import ExtraLoss
from fastglt.search.ugs import UGS
from fastglt.search.wasserstein import sinkhorn_distance
from fastglt.training.tasks import LinkPrediction, MultiLabelNodeClassification

MAX_NODES = 1000
"""Of either side of a distance at most so many nodes are taken, at random, since the cost of it is
their product."""


@register
class WDGLT(UGS):
    """UGS whose soft rounds also maximise the Wasserstein distance between predicted classes.

    Source: Hui et al., "Rethinking Graph Lottery Tickets: Graph Sparsity Matters", ICLR 2023, arXiv
    2305.02190, as implemented by the authors of TEDDY in their public code. The loss gets
    ``- wasserstein_weight * sum_c W(Z_c, Z_not_c)``, with the softmax outputs of the nodes that the
    model puts into class ``c`` on one side and those of all other nodes on the other, so all nodes
    take part in pruning, not only the labelled ones. ``W`` is a Sinkhorn distance with Euclidean
    cost. Edge gates are held in ``[0, 1]`` and there is no L1 penalty.

    Deviations: of either side at most 1,000 nodes are taken, and Sinkhorn's regularisation is 0.01
    instead of 0.001, with which ten iterations do not get near a fixed point. The paper's min-max
    scheme with its implicit gradient is replaced by joint descent, as in that code. Otherwise as
    :class:`~fastglt.search.ugs.UGS`.
    """

    name = "wd-glt"
    clamps_gates: ClassVar[bool] = True

    def extra_loss(self, context: SearchContext) -> ExtraLoss:
        """The distance between classes, negated and weighted."""
        task = context.objective.task
        if isinstance(task, (MultiLabelNodeClassification, LinkPrediction)):
            raise InputError(
                f"method 'wd-glt' tells nodes apart by their one class (got task {task.name!r})"
            )
        if context.settings.sampler != "none":
            raise InputError(
                "method 'wd-glt' compares all nodes in every step, so sampler must be 'none' (got "
                f"{context.settings.sampler!r})"
            )
        weight, generator = context.settings.wasserstein_weight, context.generator

        def loss(out: Tensor) -> Tensor:
            return -weight * class_distance(out, generator)

        return loss


def class_distance(out: Tensor, generator: torch.Generator) -> Tensor:
    """Sum over classes of the distance between the nodes predicted as it and all others, a scalar.

    Args:
        out: ``[num_nodes, num_classes]`` logits.
        generator: Draws the nodes where there are too many.

    Raises:
        InputError: If predictions are no logits of more than one class.
    """
    if out.dim() != 2 or out.size(1) < 2:
        raise InputError(
            f"method 'wd-glt' needs one logit for each class and node (got {tuple(out.shape)})"
        )
    probability, label = out.softmax(dim=-1), out.argmax(dim=-1)
    total = out.new_zeros(())
    for index in range(out.size(1)):
        inside = (label == index).nonzero().view(-1)
        outside = (label != index).nonzero().view(-1)
        if len(inside) and len(outside):
            left, right = (probability[_sample(each, generator)] for each in (inside, outside))
            total = total + sinkhorn_distance(left, right)
    return total


def _sample(nodes: Tensor, generator: torch.Generator) -> Tensor:
    if len(nodes) <= MAX_NODES:
        return nodes
    chosen = torch.randperm(len(nodes), generator=generator)[:MAX_NODES]
    return nodes[chosen.to(nodes.device)]
