"""The entry points: :func:`find` and :func:`find_seeds`."""

from fastglt.api.entry import find as find
from fastglt.api.seeds import find_seeds as find_seeds
