"""The ticket: masks, states and evidence, in memory and in one file."""

from fastglt.ticket.ticket import Ticket as Ticket
from fastglt.ticket.ticket import library_versions as library_versions
