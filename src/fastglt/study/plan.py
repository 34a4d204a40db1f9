"""What was declared of a study before its first run: margin and looks. ``plan.json`` beside it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fastglt import _strict_json
from fastglt._atomic import atomic_write
from fastglt._locks import file_lock
from fastglt.errors import InputError, OutputPathError
from fastglt.settings import first_problem

PLAN = "plan.json"
"""Name of the file in a study's folder."""


class Plan(BaseModel):
    """How a study's verdicts come about.

    Attributes:
        margin: Largest loss that still counts as none, in points.
        looks: Number of seeds at which verdicts are taken, ascending.
        first_seed: The first of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    margin: float = Field(default=0.5, ge=0)
    looks: tuple[int, ...] = Field(default=(10,), min_length=1)
    first_seed: int = Field(default=0, ge=0)

    @field_validator("looks")
    @classmethod
    def _check_looks(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if looks[0] < 1 or any(later <= earlier for earlier, later in pairwise(looks)):
            raise ValueError(f"looks must be positive and ascending (got {looks})")
        return looks

    def declared(self, folder: Path) -> Plan:
        """Write the plan into a study's folder, with the looks that were declared there before.

        To look at more seeds than was once planned is to look again. Verdicts allow for it as if it
        had been planned; those that were taken before could not, so the error rate is slightly
        above 5 % (6.5 % for 5 and then 10 seeds, simulated).

        Returns:
            What was written.

        Raises:
            InputError: If the study has another margin or other seeds, which must not be chosen by
                its results.
            OutputPathError: If it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Two processes that declare looks at one time both keep theirs.
            with file_lock(folder / f"{PLAN}.lock"):
                plan = self._joined(Plan.load(folder), folder)
                plan.save(folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputPathError(f"{str(folder / PLAN)!r} cannot be written: {reason}") from error
        return plan

    def _joined(self, before: Plan | None, folder: Path) -> Plan:
        if before is None:
            return self
        for name in ("margin", "first_seed"):
            declared, given = getattr(before, name), getattr(self, name)
            if declared != given:
                raise InputError(
                    f"{name} must be {declared:g}, as declared in {folder} (got {given:g}); "
                    f"take another folder for another {name}"
                )
        return self.model_copy(update={"looks": tuple(sorted({*before.looks, *self.looks}))})

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
