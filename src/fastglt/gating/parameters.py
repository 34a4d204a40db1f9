"""Which parameters of a model can be pruned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import HeteroLinear
from torch_geometric.nn.dense.linear import Linear as PyGLinear

from fastglt.errors import InputError, ModelError

LINEAR_LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    PyGLinear,
    HeteroLinear,
)
"""Layers whose ``weight`` is the matrix of a linear map."""
MATRIX_HOLDERS = (MessagePassing, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Layers that hold the matrices of their linear maps as parameters of their own."""
NOT_LINEAR = ("att*", "bias*", "emb*", "mu", "sigma", "comp")
"""Names of matrices in :data:`MATRIX_HOLDERS` that are no linear map: attention vectors, biases,
embeddings, Gaussian kernels (GMMConv) and coefficients of a basis (RGCNConv)."""


def prunable_weights(
    model: nn.Module, include: Collection[str] = (), exclude: Collection[str] = ()
) -> dict[str, nn.Parameter]:
    """The prunable parameters of a model by name, in the order of ``named_parameters``.

    By default these are the matrices of its linear maps:

    - the ``weight`` of every layer in :data:`LINEAR_LAYERS`, also of one that computes attention;
    - in every layer in :data:`MATRIX_HOLDERS` (convs, recurrent layers, attention) the parameters
      that it holds itself, if their last two dimensions are larger than 1 and their name is not
      in :data:`NOT_LINEAR`.

    Attention vectors, embeddings, norms, biases and matrices that other modules hold are prunable
    on request. Frozen parameters (``requires_grad`` is false) never are: they stay as given. Nor is
    a weight that :mod:`torch.nn.utils.parametrize` computes from other parameters.

    A parameter that several modules share appears once, under its first name, and by default only
    if it is prunable wherever it is used.

    Args:
        model: The model, with all parameters initialised.
        include: Patterns of further parameter names, e.g. ``"*.att_src"`` or ``"embedding.*"``
            (:mod:`fnmatch`, case-sensitive; ``*`` also matches dots).
        exclude: Patterns of parameter names that are left alone; wins over ``include``. Of a
            shared parameter, any of its names counts.

    Raises:
        InputError: If a pattern matches no parameter, or ``include`` frozen ones only.
        ModelError: If a parameter is not initialised.
    """
    check_initialized(model)
    names = _names_of_parameters(model)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check_patterns("include", include, names, trainable)
    _check_patterns("exclude", exclude, names, names)
    linear = _linear_map_names(model)
    return {
        name: parameter
        for name, parameter in trainable.items()
        if (linear.issuperset(names[name]) or _matches(names[name], include))
        and not _matches(names[name], exclude)
    }


def tied_names(model: nn.Module) -> dict[str, str]:
    """Further names of shared parameters, each with the first name of the same parameter.

    A state dict has an entry under each of them, see
    :func:`~fastglt.gating.apply_weight_mask`.
    """
    return {
        alias: first
        for first, (_, *others) in _names_of_parameters(model).items()
        for alias in others
    }


def check_rows(model: nn.Module, names: Collection[str]) -> None:
    """Refuse weights whose rows are not known to be outputs, which patterns go by.

    The rows of the matrices that convs hold themselves are inputs, those of :class:`HeteroLinear`
    types.

    Args:
        model: The model.
        names: The parameters that a pattern is for.

    Raises:
        ModelError: Naming the first of them.
    """
    for prefix, module in model.named_modules():
        if not isinstance(module, (MessagePassing, HeteroLinear)):
            continue
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if name in names and _is_linear_map(module, name.rpartition(".")[2], parameter):
                raise ModelError(
                    f"weight_pattern goes by rows of outputs, which {name!r} of "
                    f"{type(module).__name__} does not have; leave it alone with exclude={name!r}"
                )


def check_initialized(model: nn.Module) -> None:
    """Refuse a model with parameters or buffers that have no shape yet.

    Raises:
        ModelError: Naming the first of them.
    """
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
            raise ModelError(
                f"{kind} {name!r} is not initialised; run the model once on the graph before, e.g. "
                "as model(data.x, data.edge_index) in eval mode under torch.no_grad()"
            )


def _names_of_parameters(model: nn.Module) -> dict[str, list[str]]:
    """All names of each parameter, by its first."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {aliases[0]: aliases for aliases in names.values()}


def _linear_map_names(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules(remove_duplicate=False)
        for name, parameter in module.named_parameters(recurse=False)
        if _is_linear_map(module, name, parameter)
    }


def _is_linear_map(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(module, LINEAR_LAYERS):
        return name == "weight"
    is_matrix = parameter.dim() >= 2 and min(parameter.shape[-2:]) > 1
    return isinstance(module, MATRIX_HOLDERS) and is_matrix and not _matches([name], NOT_LINEAR)


def _matches(names: Collection[str], patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _check_patterns(
    argument: str,
    patterns: Collection[str],
    names: Mapping[str, Collection[str]],
    allowed: Collection[str],
) -> None:
    if isinstance(patterns, str):
        raise InputError(
            f"{argument} must be a list of patterns (got {patterns!r}); put it into a list"
        )
    every = [alias for aliases in names.values() for alias in aliases]
    for pattern in patterns:
        found = [first for first, aliases in names.items() if _matches(aliases, [pattern])]
        if not found:
            nearest = get_close_matches(pattern, every, n=3, cutoff=0.3) or every[:3]
            raise InputError(
                f"{argument} pattern {pattern!r} must match a parameter of the model; "
                f"near it are {', '.join(map(repr, nearest))}"
            )
        if not any(first in allowed for first in found):
            raise InputError(
                f"{argument} pattern {pattern!r} must match a parameter that is trained (got "
                f"{', '.join(map(repr, found[:3]))}, frozen); set requires_grad to prune it"
            )
