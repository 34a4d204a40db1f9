"""``fastglt datasets``."""

from __future__ import annotations

import dataclasses
import json

from fastglt.data import listing


def test_the_table_has_every_dataset_and_the_json_every_field(cli, tmp_path):
    rows = listing(tmp_path)
    lines = cli("datasets", f"--root={tmp_path}").out.splitlines()
    table, notes = lines[: len(rows) + 1], lines[len(rows) + 1 :]
    assert [line.split()[0] for line in table] == ["name", *(row.name for row in rows)]
    assert "13,752" in next(line for line in table if line.startswith("computers"))
    for row in rows:
        names = notes[notes.index(f"{row.source}:") + 1]
        assert row.name in names.strip().split(", ")
    assert max(map(len, lines)) <= 120
    content = json.loads(cli("datasets", f"--root={tmp_path}", "--json").out)
    assert content == [dataclasses.asdict(row) for row in rows]


def test_a_root_that_is_no_folder(cli):
    outcome = cli("datasets", "--root=nowhere")
    assert outcome.code == 2
    assert "root must be an existing folder" in outcome.err
