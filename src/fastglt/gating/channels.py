"""Which channels flow from which linear maps into which others, found by calling the model."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear as PyGLinear
from torch_geometric.nn import norm as pyg_norm

from fastglt.gating.parameters import tied_names

NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
    *(getattr(pyg_norm, name) for name in pyg_norm.__all__),
)
"""Layers from which every channel comes out by itself, but for its shift and scale."""
CONSTANT = 1e-5
"""Values that differ by less than this, relative to 1 or the largest of a layer, are one."""


@dataclass(frozen=True)
class ChannelGroup:
    """Hidden channels that some linear maps write and others read.

    Attributes:
        size: Number of channels.
        writers: Names of the weights ``[size, fan_in]`` whose rows write the channels. Of several,
            as around residual connections, the outputs are added.
        readers: By name of a weight ``[fan_out, k]``, ``[k]`` int64: the channel that a column
            reads, and nothing else, or -1 where it reads none of this group.
    """

    size: int
    writers: tuple[str, ...]
    readers: Mapping[str, Tensor]


def channel_groups(model: nn.Module, call: Callable[[nn.Module], object]) -> list[ChannelGroup]:
    """Find the hidden channels of a model by silencing them.

    The outputs of linear layers are replaced by noise, and those of half of the channels by 0 in
    turn. Which inputs of other linear layers are then the same for all nodes spells, half by half,
    the number of the channel that each of them reads. This sees through whatever works channel by
    channel and through sums over neighbours and branches, attention included; norms are bypassed.
    Where channels are mixed or a layer is called more than once, none are reported.

    Args:
        model: The model; it is not changed.
        call: Calls a model on a graph of several nodes, the smaller the quicker: ``2 *
            log2(width)`` times for each width of a layer, and once more for each layer.
    """
    probe = _Probe(model, call)
    usual = probe.constant({})
    groups: list[ChannelGroup] = []
    for width in dict.fromkeys(probe.width(name) for name in usual):
        writers = [name for name in usual if probe.width(name) == width]
        groups += _groups_of_width(probe, usual, writers, width)
    order = list(usual)
    return sorted(groups, key=lambda group: order.index(group.writers[0]))


class _Probe:
    """A copy of a model whose linear layers give noise, and are listened to."""

    def __init__(self, model: nn.Module, call: Callable[[nn.Module], object]) -> None:
        self._model, self._call = copy.deepcopy(model).eval(), call
        tied = tied_names(self._model)
        own = dict(self._model.named_parameters()).keys() - tied.values()
        self._layers = {
            name: module
            for path, module in self._model.named_modules()
            if isinstance(module, (nn.Linear, PyGLinear))
            and (name := f"{path}.weight".lstrip(".")) in own
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(layer.weight.device for layer in self._layers.values())

    def width(self, name: str) -> int:
        """Number of outputs of a layer."""
        return int(self._layers[name].weight.size(0))

    @torch.no_grad()
    def constant(self, silent: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which inputs of the layers are the same for all rows.

        Args:
            silent: By weight name, ``[width]`` bool: the outputs that are 0.

        Returns:
            By weight name, ``[fan_in]`` bool, in the order of the calls; only of layers that are
            called once.
        """
        heard: dict[str, list[Tensor]] = defaultdict(list)
        generator = torch.Generator().manual_seed(0)

        def listen(name: str, inputs: Tensor) -> Tensor:
            heard[name].append(_is_constant(inputs))
            shape = (*inputs.shape[:-1], self.width(name))
            noise = torch.randn(shape, generator=generator).to(inputs)
            return noise.masked_fill_(silent[name].to(noise.device), 0) if name in silent else noise

        forwards = {layer: partial(listen, name) for name, layer in self._layers.items()}
        norms = (module for module in self._model.modules() if isinstance(module, NORMS))
        with (
            _replaced(forwards | dict.fromkeys(norms, _as_given)),
            torch.random.fork_rng(devices=[]),
        ):
            torch.manual_seed(0)  # whatever is drawn, it is the same in every call
            self._call(self._model)
        return {name: calls[0] for name, calls in heard.items() if len(calls) == 1}


def _groups_of_width(
    probe: _Probe, usual: Mapping[str, Tensor], writers: Sequence[str], width: int
) -> list[ChannelGroup]:
    """Groups of the layers of one width, which share their runs."""
    number = torch.arange(width)
    channel = {name: torch.zeros(len(inputs), dtype=torch.int64) for name, inputs in usual.items()}
    reads_one = {name: ~inputs for name, inputs in usual.items()}
    for bit in range(max(width - 1, 1).bit_length()):
        is_set = (number >> bit & 1).bool()
        ones = probe.constant(dict.fromkeys(writers, is_set))
        zeros = probe.constant(dict.fromkeys(writers, ~is_set))
        for name in usual:
            reads_one[name] &= ones[name] ^ zeros[name]
            channel[name] += ones[name].to(torch.int64) << bit
    written_by = {}
    for writer in writers:
        others = [name for name in writers if name != writer]
        alone = probe.constant(dict.fromkeys(others, torch.ones(width, dtype=torch.bool)))
        written_by[writer] = {name: ~alone[name] for name in usual}
    readers: dict[tuple[str, ...], dict[str, Tensor]] = defaultdict(dict)
    for name, valid in reads_one.items():
        if not bool(valid.any()):
            continue
        table = torch.stack([written_by[writer][name] for writer in writers])
        patterns = {tuple(column) for column in table[:, valid].t().tolist()}
        for pattern in sorted(patterns):
            own = tuple(w for w, is_own in zip(writers, pattern, strict=True) if is_own)
            columns = valid & (table == torch.tensor(pattern)[:, None]).all(dim=0)
            if own:
                place = torch.where(columns, channel[name], -1)
                readers[own][name] = place.to(probe.device)
    return [ChannelGroup(width, own, found) for own, found in readers.items()]


def _is_constant(inputs: Tensor) -> Tensor:
    """``[fan_in]`` bool of ``[..., fan_in]`` inputs."""
    rows = (inputs.to_dense() if inputs.layout != torch.strided else inputs).flatten(0, -2)
    if not len(rows):
        return torch.ones(rows.size(1), dtype=torch.bool)
    spread = rows.amax(dim=0) - rows.amin(dim=0)
    return (spread <= CONSTANT * rows.abs().amax().clamp_min(1)).cpu()


def _as_given(x: Tensor, *_: object, **__: object) -> Tensor:
    return x


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    """Modules compute something else within the context."""
    for module, forward in forwards.items():
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module in forwards:
            del vars(module)["forward"]
