"""The entry point: :func:`find`."""

from fastglt.api.entry import find as find
