"""Tickets as models that are small and fast: edges, channels, kernels, proof."""

from fastglt.compile.compiled import Compiled as Compiled
from fastglt.compile.compiled import Report as Report
from fastglt.compile.compiled import compile_applied as compile_applied
