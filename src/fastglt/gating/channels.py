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
from torch.utils._pytree import tree_leaves
from torch_geometric.nn import Linear as PyGLinear
from torch_geometric.nn import norm as pyg_norm

from fastglt.gating.parameters import tied_names
from fastglt.masks import ChannelGroup

NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
    *(getattr(pyg_norm, name) for name in pyg_norm.__all__),
)
"""Layers from which every channel comes out by itself, but for its shift and scale."""
CONSTANT = 1e-5
"""Values that differ by less than this, relative to 1 or the largest of a layer, are one."""


def channel_groups(model: nn.Module, call: Callable[[nn.Module], object]) -> list[ChannelGroup]:
    """Find the hidden channels of a model by silencing them.

    The outputs of linear layers are replaced by noise, and those of half of the channels by 0 in
    turn. Which inputs of other linear layers are then the same for all nodes spells, half by half,
    the number of the channel that each of them reads. This sees through whatever works channel by
    channel and through sums over neighbours and branches, attention included; norms are bypassed.
    Where channels are mixed, or something else reads them as well, such as the model's output or a
    layer that is called more than once, none are reported.

    Args:
        model: The model; it is not changed.
        call: Calls a model on a graph of several nodes, the smaller the quicker: ``2 *
            log2(width)`` times for each width of a layer, and twice more for each layer.
    """
    probe = _Probe(model, call)
    usual = probe.run({})
    found: list[ChannelGroup] = []
    for width in dict.fromkeys(probe.width(name) for name in usual.readers):
        writers = [name for name in usual.readers if probe.width(name) == width]
        found += _groups_of_width(probe, usual, writers, width)
    order = list(usual.readers)
    return sorted(
        (group for group in found if _is_complete(probe, usual, group, found)),
        key=lambda group: order.index(group.writers[0]),
    )


@dataclass(frozen=True)
class _Heard:
    """What was heard in a call of the model.

    Attributes:
        inputs: By weight name, the inputs ``[rows, fan_in]`` of each call of the layer, in the
            order of the first calls.
        outputs: Tensors that the model returned.
    """

    inputs: dict[str, list[Tensor]]
    outputs: list[Tensor]

    @property
    def readers(self) -> dict[str, Tensor]:
        """The inputs of layers that were called once."""
        return {name: calls[0] for name, calls in self.inputs.items() if len(calls) == 1}


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
    def run(self, silent: Mapping[str, Tensor]) -> _Heard:
        """Call the model once.

        Args:
            silent: By weight name, ``[width]`` bool: the outputs that are 0.
        """
        heard: dict[str, list[Tensor]] = defaultdict(list)
        generator = torch.Generator().manual_seed(0)

        def listen(name: str, *args: Tensor, **keywords: Tensor) -> Tensor:
            inputs = next(iter((*args, *keywords.values())))
            dense = inputs.to_dense() if inputs.layout != torch.strided else inputs
            heard[name].append(dense.flatten(0, -2).clone())
            shape = (*inputs.shape[:-1], self.width(name))
            noise = torch.randn(shape, generator=generator).to(dense)
            return noise.masked_fill_(silent[name].to(noise.device), 0) if name in silent else noise

        forwards = {layer: partial(listen, name) for name, layer in self._layers.items()}
        norms = (module for module in self._model.modules() if isinstance(module, NORMS))
        with (
            _replaced(forwards | dict.fromkeys(norms, _as_given)),
            torch.random.fork_rng(devices=[]),
        ):
            torch.manual_seed(0)  # whatever is drawn, it is the same in every call
            returned = self._call(self._model)
        return _Heard(
            dict(heard), [one for one in tree_leaves(returned) if isinstance(one, Tensor)]
        )


def _groups_of_width(
    probe: _Probe, usual: _Heard, writers: Sequence[str], width: int
) -> list[ChannelGroup]:
    """Groups of the layers of one width, which share their runs."""
    names = list(usual.readers)

    def constant(silent: Mapping[str, Tensor]) -> dict[str, Tensor]:
        readers = probe.run(silent).readers
        return {name: _is_constant(readers[name]) for name in names}

    number = torch.arange(width)
    reads_one = {name: ~_is_constant(inputs) for name, inputs in usual.readers.items()}
    channel = {
        name: torch.zeros(len(valid), dtype=torch.int64) for name, valid in reads_one.items()
    }
    for bit in range(max(width - 1, 1).bit_length()):
        is_set = (number >> bit & 1).bool()
        ones = constant(dict.fromkeys(writers, is_set))
        zeros = constant(dict.fromkeys(writers, ~is_set))
        for name in names:
            reads_one[name] &= ones[name] ^ zeros[name]
            channel[name] += ones[name].to(torch.int64) << bit
    written_by = {}
    for writer in writers:
        others = [name for name in writers if name != writer]
        alone = constant(dict.fromkeys(others, torch.ones(width, dtype=torch.bool)))
        written_by[writer] = {name: ~alone[name] for name in names}
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


def _is_complete(
    probe: _Probe, usual: _Heard, group: ChannelGroup, found: Sequence[ChannelGroup]
) -> bool:
    """Whether nothing reads what the group's writers write but the readers that were found."""
    silence = torch.ones(group.size, dtype=torch.bool)
    silent = probe.run(dict.fromkeys(group.writers, silence))
    if not all(map(_is_equal, silent.outputs, usual.outputs)):
        return False
    known: dict[str, Tensor] = {}
    for other in found:
        if set(other.writers) & set(group.writers):
            for name, channel in other.readers.items():
                known[name] = known.get(name, torch.zeros_like(channel).bool()) | (channel >= 0)
    for name, calls in usual.inputs.items():
        for before, after in zip(calls, silent.inputs[name], strict=True):
            columns = known.get(name)
            rest = slice(None) if columns is None else ~columns.to(before.device)
            if not _is_equal(before[:, rest], after[:, rest]):
                return False
    return True


def _is_equal(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape:
        return False
    if not before.is_floating_point():
        return torch.equal(before, after)
    return torch.allclose(before, after, rtol=CONSTANT, atol=CONSTANT, equal_nan=True)


def _is_constant(rows: Tensor) -> Tensor:
    """``[fan_in]`` bool of ``[rows, fan_in]`` inputs."""
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
