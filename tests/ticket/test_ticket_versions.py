"""Files of earlier schema versions, kept as they were written then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ticket_samples import make_data, make_model, make_ticket, same_ticket

from fastglt.errors import TicketMismatchError
from fastglt.ticket import Ticket

FIXTURES = Path(__file__).parent / "fixtures"


def version_1_ticket() -> Ticket:
    """What was saved then; only tied names have been added to a model's fingerprint since."""
    ticket = make_ticket()
    del ticket.model["tied"]
    return ticket


def test_a_file_of_version_1_is_read_in_full() -> None:
    loaded = Ticket.load(FIXTURES / "version_1.ticket")
    assert same_ticket(loaded, version_1_ticket())
    assert (loaded.edge_weight, loaded.edge_list) == (None, None)
    assert loaded.edge_rule == {"name": "keep"}
    assert loaded.edge_values == "binary"


def test_a_lean_file_of_version_1_is_read() -> None:
    lean, sample = Ticket.load(FIXTURES / "version_1_lean.ticket"), make_ticket()
    assert not lean.init_is_full
    for name, value in sample.rewind(make_model(3)).state_dict().items():
        assert torch.equal(lean.rewind(make_model(4)).state_dict()[name], value)


def test_a_ticket_of_version_1_applies_and_is_saved_anew(tmp_path: Path) -> None:
    loaded = Ticket.load(FIXTURES / "version_1.ticket")
    model, data = loaded.apply(make_model(3), make_data())
    expected, _ = make_ticket().apply(make_model(4), make_data())
    assert torch.equal(model(data.x, data.edge_index), expected(data.x, data.edge_index))
    with pytest.raises(TicketMismatchError, match="needs the edge list"):
        loaded.match(make_data())
    loaded.save(tmp_path / "t")
    assert same_ticket(Ticket.load(tmp_path / "t"), loaded)
    assert b'"schema_version\\":2' in (tmp_path / "t").read_bytes()


def test_a_damaged_file_of_version_1_is_noticed(tmp_path: Path) -> None:
    from fastglt.errors import TicketFileError

    content = (FIXTURES / "version_1.ticket").read_bytes()
    (tmp_path / "t").write_bytes(content.replace(b'\\"test\\":0.5', b'\\"test\\":0.9'))
    with pytest.raises(TicketFileError, match="checksum mismatch"):
        Ticket.load(tmp_path / "t")
