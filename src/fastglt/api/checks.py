"""Refusals before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from fastglt.allocation import GLOBAL, allocate, check_room
from fastglt.api.views import INDUCTIVE_TASKS
from fastglt.errors import BudgetError, InputError, ModelError
from fastglt.gating.checks import check_copyable
from fastglt.masks import EdgeGroups, parse_pattern
from fastglt.search.swap import num_kept_groups
from fastglt.settings import TRAINED_GATE, Settings
from fastglt.training.loop import predict
from fastglt.training.task import Task


def check_settings(settings: Settings, task: Task, data: Data, pretrained: bool) -> None:
    """Refuse settings that contradict the task, the data or each other.

    Raises:
        InputError: The message names the setting.
    """
    if isinstance(data, Batch) and settings.edge_sparsity > 0:
        raise BudgetError(
            "edge_sparsity must be 0 for a batch of graphs, each of which has edges of its own "
            f"(got {settings.edge_sparsity}); weight_sparsity gives a weights-only ticket"
        )
    if isinstance(data, Batch) and settings.edge_values == "learned":
        raise InputError(
            "edge_values must be 'binary' for a batch of graphs, of which a training step may take "
            "some only (got 'learned')"
        )
    if pretrained and settings.edge_score == TRAINED_GATE and settings.edge_sparsity > 0:
        raise InputError(
            "edge_score='trained-gate' (preset 'paper') trains its gates in pre-training, which a "
            "trained model does not get; choose edge_score='influence' or 'unit-gate'"
        )
    if settings.weight_pattern != "none" and settings.weight_sparsity == 0:
        raise InputError(
            "weight_pattern is for weights that are pruned: weight_sparsity must be above 0 (got "
            f"weight_pattern={settings.weight_pattern!r})"
        )
    if "similarity" in settings.edge_score.split("+") and data.get("x") is None:
        raise InputError("edge_score 'similarity' goes by features: the graph must have data.x")
    if settings.edge_rule == "learned" and task.name not in INDUCTIVE_TASKS:
        raise InputError(
            f"edge_rule must be 'keep', 'degree' or 'random' for task {task.name!r} (got "
            "'learned', which takes nodes of the search for unseen)"
        )
    if not settings.inductive:
        return
    if task.name not in INDUCTIVE_TASKS:
        raise InputError(f"inductive must be False for task {task.name!r}; it is for node tasks")
    if pretrained:
        raise InputError(
            "inductive must be False for a trained model, which may have seen validation and test "
            "nodes; leave out init and recover='finetune'"
        )
    missing = [key for key in ("x", "y", "train_mask", "val_mask") if data.get(key) is None]
    if missing:
        raise InputError(
            f"inductive must be False for a graph without data.{missing[0]}: validation and test "
            "nodes are left out of search, and masks are chosen on some of the training nodes"
        )


def check_model_fits(model: nn.Module, data: Data, task: Task, settings: Settings) -> None:
    """Refuse a model that cannot be copied, on another device, or to carry learned edge values.

    Raises:
        ModelError: The message names the reason.
    """
    check_copyable(model)
    inputs = [value for value in (data.get("x"), data.edge_index) if value is not None]
    devices = {str(tensor.device) for tensor in (*model.parameters(), *inputs)}
    if len(devices) > 1:
        raise ModelError(f"model and data must be on one device (got {', '.join(sorted(devices))})")
    if settings.edge_values == "learned" and not task.gates_edge_weight(model):
        raise ModelError(
            "edge_values='learned' needs a model whose forward and every conv take edge_weight, "
            "and a task that passes it on "
            f"(got {type(model).__name__}); use edge_values='binary'"
        )


def check_call(model: nn.Module, task: Task, data: Data, num_outputs: int) -> None:
    """Call the model once to see that its output is usable.

    Args:
        model: The model; it is left in eval mode.
        task: Calls the model.
        data: The whole graph.
        num_outputs: What :meth:`fastglt.Task.validate` returned.

    Raises:
        ModelError: If the call fails or returns something else.
    """
    try:
        out = predict(task, model, data)
    except (RuntimeError, TypeError, ValueError) as error:
        x = data.get("x")
        features = "x None" if x is None else f"x {list(x.shape)} of {x.dtype}"
        raise ModelError(
            f"the model failed on {features} and edge_index {list(data.edge_index.shape)}: "
            f"{error}; a model that is called otherwise needs a task of its own, see fastglt.Task"
        ) from error
    task.check_output(out, data, num_outputs)


def check_budgets(weights: Mapping[str, Tensor], groups: EdgeGroups, settings: Settings) -> None:
    """Refuse impossible budgets, as far as they follow from counts.

    Raises:
        BudgetError: If nothing would be left of a layer or of the graph.
    """
    num_kept_groups(groups, settings.edge_sparsity)
    shapes = {name: weight.shape for name, weight in weights.items()}
    pattern = parse_pattern(settings.weight_pattern)
    if settings.allocation == GLOBAL:
        check_room(shapes, settings.weight_sparsity, pattern)
    else:
        allocate(shapes, settings.weight_sparsity, settings.allocation, pattern)
    start = settings.warmup_start * settings.weight_sparsity
    try:
        check_room(shapes, start, pattern)
    except BudgetError as error:
        raise BudgetError(
            f"warmup_start={settings.warmup_start} begins at too low a sparsity for "
            f"weight_pattern={settings.weight_pattern!r}: {error}"
        ) from error
