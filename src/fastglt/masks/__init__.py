"""Masks over edges and weights, edge groups, and the selection of exact counts.

A mask is boolean and ``True`` means kept. Masks live outside the model and the graph; how they
act on them is the business of :mod:`fastglt.gating`.
"""

from fastglt.masks.channels import ChannelGroup as ChannelGroup
from fastglt.masks.groups import SELF_LOOP as SELF_LOOP
from fastglt.masks.groups import EdgeGroups as EdgeGroups
from fastglt.masks.histogram import Cut as Cut
from fastglt.masks.mask import EdgeMask as EdgeMask
from fastglt.masks.mask import WeightMask as WeightMask
from fastglt.masks.patterns import FREE as FREE
from fastglt.masks.patterns import Pattern as Pattern
from fastglt.masks.patterns import parse_pattern as parse_pattern
from fastglt.masks.selection import check_sparsity as check_sparsity
from fastglt.masks.selection import num_removed as num_removed
from fastglt.masks.selection import select_top as select_top
from fastglt.masks.selection import swap as swap
from fastglt.masks.sorting import counting_sort as counting_sort
from fastglt.masks.sorting import stable_sort as stable_sort
