"""The result of a search: masks, states and evidence, and how to keep and use them."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, fields
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

import torch
import torch_geometric

from fastglt.errors import InputError
from fastglt.ticket.apply import (
    check_matching_graph,
    check_matching_model,
    loaded_copy,
    pruned_copy,
)
from fastglt.ticket.checks import check_ticket
from fastglt.ticket.fingerprint import graph_fingerprint, model_fingerprint
from fastglt.ticket.format import read_ticket, unloadable, write_ticket

if TYPE_CHECKING:
    import os

    from torch import Tensor, nn
    from torch_geometric.data import Data

    from fastglt.ticket.format import TicketFields


@dataclass(kw_only=True, repr=False, eq=False)
class Ticket:
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
    init_is_full: bool = True

    def __post_init__(self) -> None:
        check_ticket(self._fields())
        self.edge_keep = self.edge_keep.clone()
        self.weight_masks = _copied(self.weight_masks)
        self.init_state = _copied(self.init_state)
        self.trained_state = _copied(self.trained_state)

    @classmethod
    def create(cls, model: nn.Module, data: Data, **content: Any) -> Ticket:
        """A ticket for this model and graph: fills in fingerprints and provenance.

        Args:
            model: The model that was searched.
            data: The graph that was searched.
            content: The other fields of a ticket.
        """
        return cls(
            graph=graph_fingerprint(data.edge_index, data.num_nodes, data.x),
            model=model_fingerprint(model),
            provenance=library_versions(),
            **content,
        )

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
            f"is_lottery_ticket={self.is_lottery_ticket}",
        ]
        return f"Ticket({', '.join(parts)})"

    @property
    def num_edges_kept(self) -> int:
        """Number of edges kept; both directions of an undirected edge count."""
        return int(self.edge_keep.sum())

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
    def is_lottery_ticket(self) -> bool:
        """Whether the weights were retrained from the rewind, not fine-tuned."""
        return bool(self.settings.get("recover") == "rewind")

    def save(self, path: str | os.PathLike[str], *, full_init: bool = True) -> None:
        """Write the ticket into one safetensors file.

        Args:
            path: Where to write; an existing file is replaced only when all went well.
            full_init: Whether to keep the pruned entries of ``init_state``, which rebuild the dense
                model and re-initialise controls. Without them the file is much smaller. They
                cannot be brought back where ``init_is_full`` is ``False`` already.

        Raises:
            InputError: The parts no longer fit together, or ``metrics``, ``settings``,
                ``provenance`` or ``history`` hold what strict JSON cannot (NaN, tensors).
            OutputPathError: ``path`` cannot be written.
        """
        check_ticket(self._fields())
        write_ticket(path, self._fields(), full_init and self.init_is_full)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Ticket:
        """Read a ticket file; nothing in it is executed.

        Args:
            path: A file written by :meth:`save`.

        Returns:
            Ticket: Equal to the one saved, on the CPU (tuples come back as lists).

        Raises:
            TicketFileError: The file is missing, damaged, foreign or of a newer version.
        """
        content = read_ticket(path)
        try:
            return cls(**content)
        except InputError as error:
            raise unloadable(path, error) from error

    def apply(self, model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
        """Put the ticket to use: the trained, masked weights and the kept edges only.

        Args:
            model: A model of the architecture searched; its values do not matter.
            data: The graph searched, with its edges in the same order.

        Returns:
            tuple[nn.Module, Data]: Deep copies; ``model`` and ``data`` stay as they are. No node is
            renumbered or dropped, edge-level attributes are filtered along with the edges.
            Supervision edges (``edge_label_index`` and the like) stay whole.

        Raises:
            TicketMismatchError: Another graph or model; the message names the difference.
            GraphError: ``data`` is no homogeneous graph with an ``edge_index``.
            ModelError: ``model`` caches its graph, is lazy or is no module.

        Warns:
            UserWarning: The node features differ from those of the search.
        """
        check_matching_model(model, self.model, self.trained_state)
        check_matching_graph(data, self.graph)
        return loaded_copy(model, self.trained_state, self.weight_masks), pruned_copy(
            data, self.edge_keep
        )

    def rewind(self, model: nn.Module) -> nn.Module:
        """The ticket before retraining: the initial weights under the masks.

        Args:
            model: A model of the architecture searched; its values do not matter.

        Returns:
            nn.Module: A deep copy; ``model`` stays as it is.

        Raises:
            TicketMismatchError: Another model; the message names the difference.
            ModelError: ``model`` caches its graph, is lazy or is no module.
        """
        check_matching_model(model, self.model, self.init_state)
        return loaded_copy(model, self.init_state, self.weight_masks)

    def _sparsity(self, name: str, kept: int, total: int) -> float:
        if name in self.metrics:
            return float(self.metrics[name])
        return 1 - kept / total if total else 0.0

    def _fields(self) -> TicketFields:
        # Not dataclasses.asdict, which would copy every tensor.
        return cast("TicketFields", {item.name: getattr(self, item.name) for item in fields(self)})


def library_versions() -> dict[str, Any]:
    """What results depend on besides the settings, for a ticket's ``provenance``.

    Returns:
        dict[str, Any]: Versions of ``fastglt``, ``torch``, ``torch_geometric`` and ``python``, the
        ``platform`` (system, processor) and the number of ``threads`` torch computes with.
    """
    try:
        own = metadata.version("fastglt")
    except metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "fastglt": own,
        "torch": str(torch.__version__),
        "torch_geometric": str(torch_geometric.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
