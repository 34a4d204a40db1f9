"""How masks act on a model and a graph.

A hard edge mask is a shorter ``edge_index`` and nothing else, which is exact for every conv
(:mod:`~fastglt.gating.edges`). A hard weight mask is enforced after each optimizer step
(:mod:`~fastglt.gating.weights`). Soft edge gates exist only to obtain gradients
(:mod:`~fastglt.gating.gradients`), on large graphs through sparse products
(:mod:`~fastglt.gating.csr`).
"""

from fastglt.gating.adjacency import Adjacency as Adjacency
from fastglt.gating.adjacency import sample as sample
from fastglt.gating.adjacency import spmm as spmm
from fastglt.gating.averages import averaging_convs as averaging_convs
from fastglt.gating.channels import channel_groups as channel_groups
from fastglt.gating.checks import check_model as check_model
from fastglt.gating.checks import initialize_lazy as initialize_lazy
from fastglt.gating.chunks import chunked_messages as chunked_messages
from fastglt.gating.chunks import lean_inference as lean_inference
from fastglt.gating.csr import csr_messages as csr_messages
from fastglt.gating.csr import has_csr_messages as has_csr_messages
from fastglt.gating.csr import has_message_hooks as has_message_hooks
from fastglt.gating.csr import supports_csr_messages as supports_csr_messages
from fastglt.gating.edges import keep_edges as keep_edges
from fastglt.gating.edges import reorder_edges as reorder_edges
from fastglt.gating.gradients import edge_gradient as edge_gradient
from fastglt.gating.gradients import gate_gradient as gate_gradient
from fastglt.gating.gradients import loops_last as loops_last
from fastglt.gating.gradients import mean_over_groups as mean_over_groups
from fastglt.gating.gradients import message_gate as message_gate
from fastglt.gating.gradients import sum_over_groups as sum_over_groups
from fastglt.gating.gradients import unit_gates as unit_gates
from fastglt.gating.keywords import accepts_keyword as accepts_keyword
from fastglt.gating.keywords import takes_edge_attr as takes_edge_attr
from fastglt.gating.keywords import takes_edge_weight as takes_edge_weight
from fastglt.gating.parameters import check_rows as check_rows
from fastglt.gating.parameters import prunable_weights as prunable_weights
from fastglt.gating.parameters import tied_names as tied_names
from fastglt.gating.weights import WeightGate as WeightGate
from fastglt.gating.weights import apply_weight_mask as apply_weight_mask
from fastglt.gating.weights import clear_moments as clear_moments
