"""What a ticket holds: masks, states and evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fastglt.ticket.checks import check_ticket
from fastglt.ticket.edge_list import smallest_integers
from fastglt.ticket.edge_rule import KEEP, check_edge_rule
from fastglt.ticket.mask_names import named_masks

if TYPE_CHECKING:
    from torch import Tensor

    from fastglt.ticket.mask_names import MaskFormat


@dataclass(kw_only=True, repr=False, eq=False)
class TicketContent:
    """A graph lottery ticket: which edges and weights stay, and the weights before and after.

    The tensors given are copied, so that a ticket stays what it is while the model trains on.

    Attributes:
        edge_keep: Boolean ``[num_edges]``, ``True`` = kept, in the order of the ``edge_index``
            that was searched.
        weight_masks: Parameter name → boolean mask of the parameter's shape, ``True`` = kept.
            Parameters without a mask are whole.
        init_state: State dict to rewind to.
        trained_state: State dict after retraining; exactly 0 where a mask is ``False``.
        metrics: What was measured. ``edge_sparsity`` and ``weight_sparsity``, where there, are the
            achieved shares of the prunable edge groups and weights.
        settings: Every setting of the search; ``recover`` is ``"rewind"`` or ``"finetune"``.
        provenance: Where the ticket comes from; see :func:`library_versions`.
        history: Events of the denoising run, in order.
        graph: :func:`~fastglt.ticket.fingerprint.graph_fingerprint` of the searched graph.
        model: :func:`~fastglt.ticket.fingerprint.model_fingerprint` of the searched model.
        edge_weight: ``[num_edges_kept]``, one trained weight per kept edge in the order of the kept
            edges, or None for a ticket of binary edges.
        edge_list: ``[2, num_edges]``, the searched graph, or None; ``match="node_id"`` needs it.
        edge_rule: What becomes of edges that the graph has gained since: ``{"name": "keep"}`` or
            a :func:`~fastglt.ticket.degree_rule`.
        init_is_full: ``False`` for a ticket whose file kept only the unpruned entries of
            ``init_state``; the others are 0 then and the dense model cannot be rebuilt.

    Raises:
        InputError: The parts do not fit together; the message names the one at fault.
    """

    edge_keep: Tensor
    weight_masks: dict[str, Tensor]
    init_state: dict[str, Tensor]
    trained_state: dict[str, Tensor]
    graph: dict[str, Any]
    model: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    edge_weight: Tensor | None = None
    edge_list: Tensor | None = None
    edge_rule: dict[str, Any] = field(default_factory=lambda: dict(KEEP))
    init_is_full: bool = True

    def __post_init__(self) -> None:
        check_ticket(self)
        self.edge_keep = self.edge_keep.clone()
        if self.edge_weight is not None:
            self.edge_weight = self.edge_weight.detach().clone()
        if self.edge_list is not None:
            self.edge_list = smallest_integers(self.edge_list, self.graph["num_nodes"])
        self.edge_rule = check_edge_rule(self.edge_rule)
        self.weight_masks = _copied(self.weight_masks)
        self.init_state = _copied(self.init_state)
        self.trained_state = _copied(self.trained_state)

    def __repr__(self) -> str:
        weights = sum(mask.numel() for mask in self.weight_masks.values())
        parts = [
            f"edges {self.num_edges_kept}/{self.edge_keep.numel()} kept",
            f"weights {self.num_weights_kept}/{weights} kept",
            *(
                f"{name}={self.settings[name]!r}"
                for name in ("method", "seed")
                if name in self.settings
            ),
            *(["edge_values='learned'"] if self.edge_values == "learned" else []),
            f"is_lottery_ticket={self.is_lottery_ticket}",
        ]
        return f"Ticket({', '.join(parts)})"

    @property
    def num_edges_kept(self) -> int:
        """Number of edges kept; both directions of an undirected edge count."""
        return int(self.edge_keep.count_nonzero())

    @property
    def num_weights_kept(self) -> int:
        """Number of weights kept in the parameters that have a mask."""
        return sum(int(mask.sum()) for mask in self.weight_masks.values())

    @property
    def edge_sparsity(self) -> float:
        """Share of the prunable edge groups removed, as measured by the search.

        Where ``metrics`` does not say, the share of all edges, unprunable self-loops included.
        """
        return self._sparsity("edge_sparsity", self.num_edges_kept, self.edge_keep.numel())

    @property
    def weight_sparsity(self) -> float:
        """Share of the prunable weights removed, as measured by the search.

        Where ``metrics`` does not say, the share of the weights in the masked parameters.
        """
        total = sum(mask.numel() for mask in self.weight_masks.values())
        return self._sparsity("weight_sparsity", self.num_weights_kept, total)

    @property
    def edge_values(self) -> Literal["binary", "learned"]:
        """Whether kept edges are just kept or have one trained weight each."""
        return "binary" if self.edge_weight is None else "learned"

    @property
    def is_lottery_ticket(self) -> bool:
        """Whether the weights were retrained from those that the search started from."""
        if self.settings.get("method") == "reinit":
            return False
        return bool(self.settings.get("recover") == "rewind")

    @property
    def needs_edge_list(self) -> bool:
        """Whether the searched edges decide what becomes of those of a changed graph."""
        keeps_all = bool(self.edge_keep.all()) and self.edge_rule == KEEP
        return not keeps_all or self.edge_weight is not None

    def mask_state_dict(
        self, format: MaskFormat = "plain", *, originals: bool = False
    ) -> dict[str, Tensor]:
        """The weight masks as a state dict; those of the edges are ``edge_keep``.

        Args:
            format: ``"plain"`` is parameter name → boolean mask. ``"torch"`` is the naming of
                ``torch.nn.utils.prune``: ``<parameter>_mask`` with 0 and 1 in the parameter's type.
            originals: For ``"torch"``, also the trained state, the masked parameters as
                ``<parameter>_orig``: a model pruned with ``custom_from_mask`` loads it as it is.

        Returns:
            dict[str, Tensor]: Copies.

        Raises:
            InputError: Another format, or ``originals`` with ``"plain"``.
        """
        return named_masks(self.weight_masks, self.trained_state, format, originals)

    def _sparsity(self, name: str, kept: int, total: int) -> float:
        if name in self.metrics:
            return float(self.metrics[name])
        return 1 - kept / total if total else 0.0


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
