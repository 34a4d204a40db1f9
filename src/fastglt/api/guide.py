"""A teacher that the caller passes in."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from fastglt.errors import InputError, ModelError
from fastglt.settings import GIVEN, Settings
from fastglt.ticket.compiled import uncompiled
from fastglt.training.task import Task


def check_teacher(teacher: nn.Module | Tensor | None, settings: Settings) -> None:
    """Refuse a teacher that the settings contradict.

    Raises:
        InputError: If one is announced and missing, or the other way round, or predictions are
            given where hidden features are to be compared, or meet ``inductive``, since they may be
            made of nodes that are to be unseen.
    """
    if teacher is None and settings.teacher == GIVEN:
        raise InputError(
            "teacher='given' needs a teacher: pass a trained model, or its predictions as a "
            "tensor, as find(teacher=...)"
        )
    if teacher is not None and settings.teacher != GIVEN:
        raise InputError(f"teacher must be 'given' where one is passed (got {settings.teacher!r})")
    if settings.teacher_features > 0 and (
        isinstance(teacher, Tensor) or settings.teacher == "none"
    ):
        raise InputError(
            "teacher_features must be 0 without a model as the teacher, whose hidden features it "
            f"compares (got {settings.teacher_features})"
        )
    if isinstance(teacher, Tensor) and settings.inductive:
        raise InputError(
            "teacher must be a model with inductive=True: predictions may have been made with the "
            "help of validation and test nodes (a model is called on visible nodes only)"
        )


def given_teacher(
    teacher: nn.Module | Tensor, task: Task, data: Data, like: Tensor
) -> tuple[nn.Module | None, Tensor]:
    """The model, if it is one, and what it encodes of the graph that the search sees.

    Args:
        teacher: A trained model, called as the searched one is, or predictions.
        task: Calls it.
        data: What it may look at, all features dense.
        like: What the dense model encodes of the whole graph.

    Raises:
        InputError: If predictions have another shape than the dense model's, or are not finite.
        ModelError: If the model cannot be called as the searched one is, or gives another width.
    """
    if isinstance(teacher, Tensor):
        encoded = teacher.detach().to(like)
        if encoded.shape != like.shape:
            raise InputError(
                f"teacher must have shape {list(like.shape)}, that of the model's own predictions "
                f"(got {list(encoded.shape)})"
            )
        model = None
    else:
        model = copy.deepcopy(uncompiled(teacher)).eval()
        try:
            with torch.no_grad():
                encoded = task.encode(model, data)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"the teacher failed on a graph of {data.num_nodes} nodes: {error}; it is called "
                "as the searched model is"
            ) from error
        if encoded.shape[1:] != like.shape[1:]:
            raise ModelError(
                f"the teacher must give outputs of shape {['*', *like.shape[1:]]}, as the searched "
                f"model does (got {list(encoded.shape)})"
            )
    if not bool(encoded.isfinite().all()):
        raise InputError("the teacher's predictions must be finite (got NaN or infinity)")
    return model, encoded
