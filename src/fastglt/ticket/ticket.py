"""The result of a search: masks, states and evidence, and how to keep and use them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

from fastglt.errors import InputError
from fastglt.ticket.apply import (
    check_takes_edge_weight,
    independent_copy,
    loaded_copy,
)
from fastglt.ticket.checks import check_ticket
from fastglt.ticket.compiled import uncompiled, uncompiled_names
from fastglt.ticket.content import TicketContent
from fastglt.ticket.edge_list import smallest_integers
from fastglt.ticket.edges import TicketEdges, plain_graph
from fastglt.ticket.fingerprint import graph_fingerprint, model_fingerprint
from fastglt.ticket.format import read_ticket, unloadable, write_ticket
from fastglt.ticket.from_masks import given_parts, given_settings
from fastglt.ticket.provenance import library_versions
from fastglt.ticket.transform import PruneEdges

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import torch
    from torch import Tensor, nn
    from torch_geometric.data import Data

    from fastglt.compile import Compiled
    from fastglt.ticket.edge_match import EdgeMatch
    from fastglt.ticket.edges import Match
    from fastglt.training.task import Task


class Ticket(TicketContent):  # noqa: D101
    __doc__ = TicketContent.__doc__  # help() shows no docstring of a base class

    @classmethod
    def create(cls, model: nn.Module, data: Data, **content: Any) -> Ticket:
        """A ticket for this model and graph: fills in fingerprints, provenance and edge list.

        Args:
            model: The model that was searched; one wrapped by ``torch.compile`` is unwrapped.
            data: The graph that was searched.
            content: The other fields of a ticket. The edge list is filled in where some edge is
                pruned, has a learned weight, or new edges do not simply stay.

        Raises:
            InputError: The parts do not fit together; the message names the one at fault.
            GraphError: ``data`` is no homogeneous graph with edges.
            ModelError: ``model`` is lazy or no module.
        """
        graph = plain_graph(data)
        named = ("weight_masks", "init_state", "trained_state")
        tensors = {key: uncompiled_names(content[key]) for key in named if key in content}
        ticket = cls(
            graph=graph_fingerprint(graph.edge_index, graph.num_nodes, graph.x),
            model=model_fingerprint(uncompiled(model)),
            provenance=library_versions(graph.edge_index.device),
            **content | tensors,
        )
        if "edge_list" not in content and ticket.needs_edge_list:
            ticket.edge_list = smallest_integers(graph.edge_index, graph.num_nodes)
        return ticket

    @classmethod
    def from_masks(
        cls,
        model: nn.Module,
        data: Data,
        *,
        edge_keep: Tensor | None = None,
        weight_masks: Mapping[str, Tensor] | None = None,
        init_state: Mapping[str, Tensor] | None = None,
        trained_state: Mapping[str, Tensor] | None = None,
        recover: Literal["rewind", "finetune"] | None = None,
        **content: Any,
    ) -> Ticket:
        """A ticket of masks that were found elsewhere.

        Args:
            model: The model, with ``torch.nn.utils.prune`` applied to it or not.
            data: The graph.
            edge_keep: Boolean ``[num_edges]``, ``True`` = kept; all of them by default.
            weight_masks: In either naming, see :func:`~fastglt.ticket.masks_from_state_dict`; by
                default those of ``torch.nn.utils.prune`` in ``model``.
            init_state: State dict before training, in either naming; by default, the trained one.
            trained_state: State dict after training under the masks, in either naming; by default,
                that of ``model``, on which the masks are put.
            recover: How the trained state came about. ``"rewind"``: it was trained under the
                masks from ``init_state``, which makes a lottery ticket.
            content: Further fields: ``metrics``, ``settings``, ``history``, ``edge_weight``,
                ``edge_rule``.

        Returns:
            Ticket: With ``settings["method"] == "given"`` unless ``settings`` say otherwise.

        Raises:
            InputError: The parts do not fit together, or ``recover="rewind"`` without both states.
            ModelError: ``model`` is lazy or no module.
        """
        weight_masks, init_state, trained_state = (
            None if tensors is None else uncompiled_names(tensors)
            for tensors in (weight_masks, init_state, trained_state)
        )
        states = (init_state, trained_state)
        model = uncompiled(model)
        settings = given_settings(content.pop("settings", {}), recover, states)
        parts = given_parts(model, plain_graph(data), edge_keep, weight_masks, states)
        return cls.create(model, data, settings=settings, **parts, **content)

    def save(
        self, path: str | os.PathLike[str], *, full_init: bool = True, edge_list: bool = True
    ) -> None:
        """Write the ticket into one safetensors file.

        Args:
            path: Where to write; an existing file is replaced only when all went well.
            full_init: Whether to keep the pruned entries of ``init_state``, which rebuild the dense
                model and re-initialise controls. Without them the file is much smaller. They
                cannot be brought back where ``init_is_full`` is ``False`` already.
            edge_list: Whether to keep the edge list of the searched graph, which
                ``match="node_id"`` needs.

        Raises:
            InputError: The parts no longer fit together, or ``metrics``, ``settings``,
                ``provenance`` or ``history`` hold what strict JSON cannot (NaN, tensors).
            OutputPathError: ``path`` cannot be written.
        """
        saved = copy.copy(self)
        if not edge_list:
            saved.edge_list = None
        check_ticket(saved)
        write_ticket(path, saved, full_init and self.init_is_full)

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

    def apply(self, model: nn.Module, data: Data, match: Match = "edges") -> tuple[nn.Module, Data]:
        """Put the ticket to use: the trained, masked weights and the kept edges only.

        Args:
            model: A model of the architecture searched; its values do not matter, and what of it
                is lazy gets its shape in the copy.
            data: The graph searched, with its edges in the same order, or what it has become; its
                edges may be an ``edge_index``, an ``EdgeIndex`` or a CSR ``adj_t``.
            match: ``"edges"`` takes no other graph than the one searched. ``"node_id"`` is for one
                that has gained nodes or edges or lost edges since: the ticket's edges are found by
                their end nodes and new ones go by ``edge_rule``; self-loops stay. :meth:`match`
                has the counts.

        Returns:
            tuple[nn.Module, Data]: Deep copies; ``model`` and ``data`` stay as they are. A model
            wrapped by ``torch.compile`` is copied with its wrapper. No node is
            renumbered or dropped, edge-level attributes are filtered along with the edges.
            Supervision edges (``edge_label_index`` and the like) stay whole. Learned edge weights
            are multiplied onto ``edge_weight``; new edges have 1.

        Raises:
            TicketMismatchError: Another graph or model; the message names the difference.
            GraphError: ``data`` is no homogeneous graph with edges.
            ModelError: ``model`` caches its graph, cannot be copied, is no module, or does not take
                the learned edge weights of this ticket.

        Warns:
            UserWarning: The node features differ from those of the search, or with
                ``match="node_id"`` most of its edges are gone.
        """
        applied = self.apply_weights(model)
        if self.edge_weight is not None:
            check_takes_edge_weight(uncompiled(model))
        return applied, independent_copy(self._edges().prune(data, match))

    def compile(
        self,
        model: nn.Module,
        data: Data,
        *,
        match: Match = "edges",
        task: Task | None = None,
        dtype: torch.dtype | None = None,
    ) -> Compiled:
        """Put the ticket to use as a model that is small and fast, and proven equal.

        Dead channels, unread features and pruned edges are left out, and the kernels that are
        fastest on this machine are chosen for this graph. What comes out is compared with the
        masked model in double and single precision, on the whole graph and on random parts of it.

        Args:
            model: As in :meth:`apply`. PyG's ``GCN``, ``GIN``, ``GAT`` and ``GraphSAGE``, the
                backbones, ``Sequential`` and ``DeepGCNLayer`` are taken apart; another model keeps
                its shape, and ``report.kept_shape`` says why.
            data: As in :meth:`apply`.
            match: As in :meth:`apply`.
            task: Says how the model is called; the default is ``model(x, edge_index)``, with
                ``edge_weight`` and ``edge_attr`` where graph and model have them.
            dtype: ``torch.bfloat16`` or ``torch.float16`` to have ``predict`` compute in it, which
                is no longer equal but within 5 or 1 % of the largest output.

        Returns:
            Compiled: ``predict()`` gives ``[num_nodes, num_outputs]``, ``model`` and ``data`` are
            a module of ordinary layers and its graph, ``report`` says what was done.

        Raises:
            CompileError: The result differs from the masked model.
            TicketMismatchError: Another graph or model; the message names the difference.
            GraphError: ``data`` is no homogeneous graph with edges.
            InputError: ``dtype`` is another one.
            ModelError: As in :meth:`apply`, or ``dtype`` is given and the model keeps its shape.
        """
        from fastglt.compile import compile_applied
        from fastglt.training.tasks import NodeClassification

        applied, pruned = self.apply(model, data, match)
        calls = NodeClassification() if task is None else task
        return compile_applied(uncompiled(applied), plain_graph(pruned), calls, dtype)

    def apply_weights(self, model: nn.Module) -> nn.Module:
        """The trained, masked weights alone, for graphs that were not searched.

        Args:
            model: A model of the architecture searched; its values do not matter, and what of it
                is lazy gets its shape in the copy.

        Returns:
            nn.Module: A deep copy; ``model`` stays as it is.

        Raises:
            TicketMismatchError: Another model; the message names the difference.
            ModelError: ``model`` caches its graph, cannot be copied or is no module.
        """
        return loaded_copy(model, self.model, self.trained_state, self.weight_masks)

    def match(self, data: Data) -> EdgeMatch:
        """What ``match="node_id"`` makes of a graph that has changed since the search.

        Args:
            data: The graph as it is now, its nodes numbered as in the search.

        Returns:
            EdgeMatch: Which edges are kept, and how many are known, new and gone.

        Raises:
            TicketMismatchError: Nodes are missing, or the ticket holds no edge list.
            GraphError: ``data`` is no homogeneous graph with edges.

        Warns:
            UserWarning: Most of the ticket's edges are gone, as they are after renumbering.
        """
        return self._edges().find(data)

    def transform(self, match: Match = "edges") -> PruneEdges:
        """The ticket's edges as a PyG transform, for ``Compose``, datasets and loaders.

        Args:
            match: As in :meth:`apply`.

        Returns:
            PruneEdges: A ``torch_geometric.transforms.BaseTransform``.
        """
        return PruneEdges(self._edges(), match)

    def rewind(self, model: nn.Module) -> nn.Module:
        """The ticket before retraining: the initial weights under the masks.

        Args:
            model: A model of the architecture searched; its values do not matter, and what of it
                is lazy gets its shape in the copy.

        Returns:
            nn.Module: A deep copy; ``model`` stays as it is.

        Raises:
            TicketMismatchError: Another model; the message names the difference.
            ModelError: ``model`` caches its graph, cannot be copied or is no module.
        """
        return loaded_copy(model, self.model, self.init_state, self.weight_masks)

    def _edges(self) -> TicketEdges:
        return TicketEdges(
            self.graph, self.edge_keep, self.edge_weight, self.edge_list, self.edge_rule
        )
