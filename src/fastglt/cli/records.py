"""What a ticket written by the command line says about its graph and model.

Kept in ``ticket.settings`` under ``dataset``, ``task`` and ``model``. Folders are never kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastglt.errors import TicketFileError
from fastglt.models import is_own_model
from fastglt.models.config import BackboneConfig
from fastglt.settings import first_problem

if TYPE_CHECKING:
    from fastglt.data import LoadedDataset

_Record = TypeVar("_Record", bound=BaseModel)


class DatasetRecord(BaseModel):
    """A graph and the transforms that :func:`fastglt.data.transforms.replay` does again.

    ``own`` says that it is the user's own and that ``name`` is that of its file; ``title`` is the
    name that results are reported under.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    task: str
    metric: str = "accuracy"
    title: str = ""
    own: bool = False
    transforms: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def of(cls, dataset: LoadedDataset, *, own: bool) -> DatasetRecord:
        """The record of a dataset that was loaded."""
        return cls(
            name=dataset.name,
            task=dataset.task,
            metric=dataset.metric,
            title=dataset.title,
            own=own,
            transforms=[dict(record) for record in dataset.transforms],
        )


class TaskRecord(BaseModel):
    """What was predicted and measured, see :meth:`fastglt.Task.record`."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    metric: str


class ModelRecord(BackboneConfig):
    """A named backbone and its size, or the file name and function of a model of one's own."""

    name: str


def recorded_name(model: str) -> str:
    """What a ticket calls a model: its name, or its file without the folder."""
    return Path(model).name if is_own_model(model) else model.lower()


def read_record(kind: type[_Record], name: str, settings: Mapping[str, Any]) -> _Record | None:
    """One record of a ticket, or ``None`` where it has none.

    Args:
        kind: Class of the record.
        name: Its key in the settings.
        settings: Settings of the ticket.

    Raises:
        TicketFileError: If there is something else under that key.
    """
    if name not in settings:
        return None
    try:
        return kind.model_validate(settings[name])
    except ValidationError as error:
        where, problem = first_problem(error)
        place = f"{name}.{where}" if where else name
        raise TicketFileError(f"the ticket's setting {place} cannot be used: {problem}") from None
