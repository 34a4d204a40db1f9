"""UGS: iterative magnitude pruning of edges and weights together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, ClassVar

from torch import Tensor

from fastglt.allocation import cut_weights
from fastglt.errors import BudgetError
from fastglt.gating import apply_weight_mask, tied_names
from fastglt.masks import EdgeMask, WeightMask, select_top
from fastglt.search.base import SearchContext, SearchMethod, SearchResult, full_masks, register
from fastglt.search.soft_masks import ExtraLoss, SoftMasks, SoftScores
from fastglt.search.swap import num_kept_groups
from fastglt.settings import Settings
from fastglt.training.known_graph import kept_view
from fastglt.training.loop import FitConfig, clone_state, fit
from fastglt.training.progress import stateful
from fastglt.training.states import check_like, check_tensor, to_device_of


@dataclass(frozen=True)
class Round:
    """One round of training and pruning.

    Attributes:
        edge_sparsity: Afterwards.
        weight_sparsity: Afterwards.
        epochs: Epochs that it took.
        soft_metric: Best validation metric with soft masks.
        metric: Validation metric of the binary masks, retrained; ``None`` where they were not.
    """

    edge_sparsity: float
    weight_sparsity: float
    epochs: int
    soft_metric: float
    metric: float | None


class _Done:
    """The rounds so far, and the masks after them."""

    def __init__(self, edge_mask: EdgeMask, weight_mask: WeightMask) -> None:
        self.edge_mask, self.weight_mask = edge_mask, weight_mask
        self.rounds: list[Round] = []

    def add(self, edge_mask: EdgeMask, weight_mask: WeightMask, last: Round) -> None:
        """Another round."""
        self.edge_mask, self.weight_mask = edge_mask, weight_mask
        self.rounds.append(last)

    def state_dict(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        return {
            "keep": self.edge_mask.keep,
            "weight_mask": dict(self.weight_mask),
            "rounds": [asdict(each) for each in self.rounds],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`state_dict`."""
        check_tensor(state["keep"], self.edge_mask.keep, "keep")
        check_like(state["weight_mask"], self.weight_mask)
        keep = state["keep"].to(self.edge_mask.keep.device)
        self.edge_mask = EdgeMask(self.edge_mask.groups, keep)
        self.weight_mask = WeightMask(to_device_of(state["weight_mask"], self.weight_mask))
        self.rounds = [Round(**each) for each in state["rounds"]]


@register
class UGS(SearchMethod):
    """Rounds of training with soft masks, pruning the smallest, and rewinding.

    Source: Chen et al., "A Unified Lottery Ticket Hypothesis for Graph Neural Networks", ICML 2021,
    arXiv 2102.06790, and its public code. A round starts from the initial weights. Weights, soft
    masks of the weights and soft gates of the edges are trained together, an L1 subgradient
    (``weight_l1``, ``edge_l1``) added to that of masks and gates, with the same Adam and the same
    weight decay for all. What was smallest at the epoch of the best validation metric is pruned:
    weights globally over all layers (``allocation``), by the mask alone. In the preset ``paper``,
    which does not stop early, the binary masks are then retrained from the initial weights for
    ``fixed_epochs``, as the source does after every round; nothing depends on it, so the preset
    ``default`` leaves it out.

    The source prunes 5 % of the remaining edges and 20 % of the remaining weights a round for 20
    rounds (``edge_rate``, ``weight_rate``, ``rounds``). By default each axis gets the constant rate
    ``1 - (1 - sparsity) ** (1 / rounds)`` instead, so that both arrive at their sparsity in the
    last round. With rates of one's own an axis stops when it has arrived.

    Deviations: edges are pruned in pairs where the graph is undirected, exact counts by rank
    instead of a threshold, no gate below 1e-4 in the forward pass (negative edge weights break the
    normalisation); the L1 coefficients are those of the source for GCN on Cora and CiteSeer,
    whatever the graph (for PubMed it has 1e-6 for edges and 1e-3 for weights). For convs that do
    not take edge weights gates act on the finished messages.
    """

    name = "ugs"
    clamps_gates: ClassVar[bool] = False

    def extra_loss(self, context: SearchContext) -> ExtraLoss | None:
        """A further loss of the soft rounds."""
        return None

    def search(self, context: SearchContext) -> SearchResult:
        """All rounds; the masks of the last one are returned."""
        settings = context.settings
        targets = sparsities_by_round(settings)
        start = clone_state(context.model)
        edge_mask, weight_mask = full_masks(context, context.model)
        done = _Done(edge_mask, weight_mask)
        total = settings.rounds * (settings.mask_epochs + settings.fixed_epochs)
        context.callback.on_phase_start(self.name, total)
        parts = {"model": context.model, "context": context.generator, "done": done}
        parts |= stateful(task=context.objective.task)
        for number in context.progress.loop("rounds", len(targets), parts, nests=True):
            edge_sparsity, weight_sparsity = targets[number - 1]
            scores = SoftMasks(
                context,
                start,
                done.edge_mask,
                done.weight_mask,
                settings.seed + number,
                extra_loss=self.extra_loss(context),
                clamp_gates=self.clamps_gates,
            ).run(settings.mask_epochs, settings.patience, f"{self.name} round {number}")
            edge_mask = prune_edges(done.edge_mask, scores, edge_sparsity)
            weight_mask = prune_weights(
                done.weight_mask, scores, weight_sparsity, settings.allocation
            )
            retrained = self._retrained(context, start, edge_mask, weight_mask)
            done.add(
                edge_mask,
                weight_mask,
                Round(
                    edge_mask.sparsity,
                    weight_mask.sparsity,
                    scores.epochs + retrained[1],
                    scores.metric,
                    retrained[0],
                ),
            )
            epochs = number * (settings.mask_epochs + settings.fixed_epochs)
            context.callback.on_step(self.name, epochs, scores.metric)
        context.callback.on_phase_end(self.name)
        tied = tied_names(context.model)
        return SearchResult(
            done.edge_mask,
            done.weight_mask,
            epochs=sum(each.epochs for each in done.rounds),
            state=apply_weight_mask(context.model.state_dict(), done.weight_mask, tied),
            metrics={"rounds": [asdict(each) for each in done.rounds]},
        )

    @staticmethod
    def _retrained(
        context: SearchContext,
        start: dict[str, Tensor],
        edge_mask: EdgeMask,
        weight_mask: WeightMask,
    ) -> tuple[float | None, int]:
        """Validation metric of binary masks after retraining, and the epochs that it took."""
        settings, model = context.settings, context.model
        if settings.fixed_epochs == 0:
            return None, 0
        model.load_state_dict(apply_weight_mask(start, weight_mask, tied_names(model)))
        config = FitConfig(
            settings.fixed_epochs, settings.lr, context.weight_decay(), settings.patience
        )
        kept = kept_view(context.data, edge_mask.edges)
        result = fit(
            model,
            kept,
            context.objective,
            config,
            seed=settings.seed,
            phase="fixed masks",
            mask=weight_mask,
            progress=context.progress,
        )
        return result.val_metric, result.epochs


def sparsities_by_round(settings: Settings) -> list[tuple[float, float]]:
    """Edge and weight sparsity after each round; those of the last are exactly what was asked for.

    Raises:
        BudgetError: If a rate of one's own does not reach its sparsity in so many rounds.
    """
    axes = [
        _sparsities(name, getattr(settings, f"{name}_sparsity"), rate, settings.rounds)
        for name, rate in (("edge", settings.edge_rate), ("weight", settings.weight_rate))
    ]
    return list(zip(*axes, strict=True))


def _sparsities(name: str, target: float, rate: float | None, rounds: int) -> list[float]:
    if rate is None:
        kept = (1 - target) ** (1 / rounds)
        return [*(1 - kept**number for number in range(1, rounds)), target]
    # A rate is the decimal that was written: 10 % of 270 are 27, but 1 - 0.9 is less than 0.1.
    left = 1 - Fraction(str(rate))
    reached = [min(target, float(1 - left**number)) for number in range(1, rounds + 1)]
    # Compounding is subject to rounding, what was asked for is not.
    if reached[-1] < target - 1e-6:
        raise BudgetError(
            f"{name}_rate {rate} prunes {reached[-1]:.4f} in {rounds} rounds, less than "
            f"{name}_sparsity {target}; choose more rounds or a higher rate, or leave the rate out"
        )
    return [target if value > target - 1e-6 else value for value in reached]


def prune_edges(mask: EdgeMask, scores: SoftScores, sparsity: float) -> EdgeMask:
    """Keep the kept edges with the largest gates, as many as the sparsity leaves."""
    if scores.edges is None:
        return mask
    score = scores.edges.masked_fill(~mask.keep, -1)
    return EdgeMask(mask.groups, select_top(score, num_kept_groups(mask.groups, sparsity)))


def prune_weights(
    mask: WeightMask, scores: SoftScores, sparsity: float, allocation: str
) -> WeightMask:
    """Keep the kept weights with the largest masks, as many as the sparsity leaves."""
    if not scores.weights:
        return mask
    kept = {name: score.masked_fill(~mask[name], -1) for name, score in scores.weights.items()}
    return cut_weights(kept, sparsity, allocation)[0]
