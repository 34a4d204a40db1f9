"""Compiled models as files that need nothing of this library, nor PyG, where they are used."""

from fastglt.compile.export.files import KINDS as KINDS
from fastglt.compile.export.files import WEIGHTS as WEIGHTS
from fastglt.compile.export.files import Exported as Exported
from fastglt.compile.export.files import checked as checked
from fastglt.compile.export.files import export as export
