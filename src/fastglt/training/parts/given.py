"""Batches of a loader of the user's."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from fastglt.errors import InputError
from fastglt.training.parts.cut import Cut, SelfLoops, cut_of, in_degree
from fastglt.training.parts.source import Sampling
from fastglt.training.sampling import WORKERS_REPEAT, NeighborSampler
from fastglt.training.seeding import seeded
from fastglt.training.task import ADJACENCY


class GivenParts:
    """What a loader of the user's yields."""

    def __init__(self, data: Data, sampling: Sampling) -> None:
        if sampling.loader is None:
            raise InputError("sampler='given' needs loader=, a function of the graph")
        plain = copy.copy(data)
        plain.num_nodes = data.num_nodes
        for name in ("x", ADJACENCY):  # features may be in a form that loaders do not know
            if name in plain:
                del plain[name]
        self._loader = sampling.loader(plain)
        try:
            self._count = len(self._loader)  # type: ignore[arg-type]
        except TypeError as error:
            raise InputError(
                "loader must return something with a length, such as a PyG loader or a list of "
                f"batches (got {type(self._loader).__name__})"
            ) from error
        if self._count == 0:
            raise InputError("loader must return at least one batch (got none)")
        workers = getattr(self._loader, "num_workers", 0)
        if workers and isinstance(getattr(self._loader, "node_sampler", None), NeighborSampler):
            raise InputError(f"{WORKERS_REPEAT}; leave it out of the loader (got {workers})")
        self._sampling = sampling
        self._batches: Iterator[Data] = iter(())
        self._seed = self._next = 0
        self._edge_index = data.edge_index.cpu()
        self._num_nodes = int(data.num_nodes)
        self._loops = SelfLoops.of(data) if sampling.keeps_loops else None
        self._degree = in_degree(data)

    def renewed(self, data: Data) -> GivenParts:
        """What the loader yields of other edges, from where an epoch is."""
        result = GivenParts(data, self._sampling)
        if result._count != self._count:
            raise InputError(
                "loader must return as many batches for every graph that denoising makes "
                f"(got {result._count} after {self._count})"
            )
        result._seed, result._next = self._seed, self._count
        return result

    def scored(self, kept: Tensor) -> GivenParts:
        """The same in a pass of its own: which edges a batch has is the loader's to say."""
        result = copy.copy(self)
        result._batches, result._next = iter(()), self._count
        return result

    def num_parts(self, num_seeds: int) -> int:
        """The loader's batches."""
        return self._count

    def order(self, strata: Sequence[Tensor], seed: int) -> list[Tensor]:
        """Numbers of the batches, which come in the loader's order."""
        self._seed, self._next = seed, self._count
        return list(torch.arange(self._count))

    def cut(self, seeds: Tensor, seed: int) -> Cut:
        """The batch of that number; those before it are passed over."""
        number = int(seeds)
        with seeded(self._seed):
            if number < self._next:
                self._batches, self._next = iter(self._loader), 0
        batch: Data | None = None
        while self._next <= number:
            with seeded(seed):
                batch = next(self._batches, None)
            self._next += 1
        if batch is None:
            raise InputError(f"loader must yield the {self._count} batches that its length says")
        cut = cut_of(self._checked(batch), self._degree)
        if self._loops is None:
            return cut
        return self._loops.joined(cut.only(cut.edge_index[0] != cut.edge_index[1]))

    def _checked(self, batch: object) -> Data:
        """What of a batch is read, on the CPU, if it is a part of the graph."""
        if not isinstance(batch, Data):
            raise InputError(f"loader must yield PyG's Data (got {type(batch).__name__})")
        missing = [name for name in ("n_id", "edge_index") if batch.get(name) is None]
        if missing:
            raise InputError(
                f"batches of loader must have {missing[0]}: n_id says which nodes of the graph are "
                "in a batch, e_id which edges, and batch_size how many of the first are predicted"
            )
        edge_index = _integers("edge_index", batch.edge_index)
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise InputError(
                f"edge_index of a batch must be [2, num_edges] (got {list(edge_index.shape)})"
            )
        nodes = _places("n_id", "nodes", batch.n_id, None, self._num_nodes)
        _places("edge_index", "places in n_id", edge_index.reshape(-1), None, len(nodes))
        count = batch.get("batch_size")
        if isinstance(count, Tensor) and count.numel() == 1 and not count.is_floating_point():
            count = int(count)
        if count is not None and not (isinstance(count, int) and 1 <= count <= len(nodes)):
            raise InputError(
                f"batch_size of a batch must be in [1, {len(nodes)}], the length of its n_id (got "
                f"{count!r})"
            )
        if len(torch.unique(nodes)) < len(nodes):
            raise InputError("n_id of a batch must hold no node twice")
        edges = batch.get("e_id")
        if edges is not None:
            whole = self._edge_index
            edges = _places("e_id", "edges", edges, edge_index.size(1), whole.size(1))
            if not torch.equal(whole[:, edges], nodes[edge_index]):
                raise InputError(
                    "e_id of a batch must be the places of its edges in the graph that loader was "
                    "given, but other edges are there; was the loader made of another graph?"
                )
        elif bool(
            (torch.bincount(edge_index[1], minlength=len(nodes)) > self._degree[nodes, 0]).any()
        ):
            raise InputError(
                "a batch has more edges into a node than the graph that loader was given; was the "
                "loader made of another graph? If it draws with replacement, it must yield e_id"
            )
        hops = batch.get("num_sampled_nodes")
        if not _sorts(hops, len(nodes), count):
            hops = None
        return Data(
            edge_index=edge_index, n_id=nodes, e_id=edges, batch_size=count, num_sampled_nodes=hops
        )


def _sorts(hops: object, num_nodes: int, num_seeds: int | None) -> bool:
    """Whether these can be numbers of nodes by hop from the seeds; only the time depends on it."""
    if not isinstance(hops, list | tuple) or not all(type(n) is int and n >= 0 for n in hops):
        return False
    return sum(hops) == num_nodes and hops[0] == num_seeds


def _integers(name: str, values: object) -> Tensor:
    if not isinstance(values, Tensor) or values.dtype not in (torch.int64, torch.int32):
        found = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"{name} of a batch must be a tensor of int64 (got {found})")
    return values.cpu().long()


def _places(name: str, of: str, values: object, length: int | None, bound: int) -> Tensor:
    """Values as ``[length]`` int64 on the CPU, if they are in ``[0, bound)``."""
    result = _integers(name, values)
    if result.dim() != 1 or (length is not None and len(result) != length):
        raise InputError(
            f"{name} of a batch must be [{'n' if length is None else length}] (got "
            f"{list(result.shape)})"
        )
    lowest, highest = (int(f()) for f in (result.min, result.max)) if len(result) else (0, -1)
    if lowest < 0 or highest >= bound or (name == "n_id" and len(result) == 0):
        found = "none" if len(result) == 0 else f"{lowest} to {highest}"
        raise InputError(f"{name} of a batch must hold {of} in [0, {bound}) (got {found})")
    return result
