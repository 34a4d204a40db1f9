"""What was declared of a study before its first run: margin and looks. ``plan.json`` beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastglt import _strict_json
from fastglt._atomic import atomic_write
from fastglt.errors import InputError
from fastglt.settings import first_problem
from fastglt.study.statistics import LEVEL, look_level

PLAN = "plan.json"
"""Name of the file in a study's folder."""


class Plan(BaseModel):
    """How a study's verdicts come about.

    Attributes:
        margin: Largest loss that still counts as none, in points.
        looks: Number of seeds at which verdicts are taken, ascending.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    margin: float = Field(default=0.5, ge=0)
    looks: tuple[int, ...] = Field(default=(10,), min_length=1)

    @property
    def level(self) -> float:
        """Error rate of each verdict, so that all looks together err at 5 %."""
        return look_level(self.looks, LEVEL)

    def save(self, folder: Path) -> None:
        """Write it into a study's folder, which is made.

        Raises:
            OutputPathError: If it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / PLAN) as temporary:
            text = _strict_json.dumps(self.model_dump(mode="json"), "plan")
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Plan | None:
        """The plan of a study, or ``None`` if there is none.

        Raises:
            InputError: If the file is no plan.
        """
        path = (folder.parent if folder.suffix == ".jsonl" else folder) / PLAN
        try:
            return cls.model_validate(_strict_json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            place, problem = first_problem(error)
            raise InputError(f"{path}: {place}: {problem}") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
