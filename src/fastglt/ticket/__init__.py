"""The ticket: masks, states and evidence, in memory and in one file."""

from fastglt.ticket.edge_match import EdgeMatch as EdgeMatch
from fastglt.ticket.edge_rule import degree_rule as degree_rule
from fastglt.ticket.mask_names import masks_from_state_dict as masks_from_state_dict
from fastglt.ticket.provenance import library_versions as library_versions
from fastglt.ticket.ticket import Ticket as Ticket
from fastglt.ticket.transform import PruneEdges as PruneEdges
