"""The report in a real browser, where there is one.

``FASTGLT_BROWSER`` is a folder in which ``npm install puppeteer-core @sparticuz/chromium`` was
run; without it the test is skipped. With ``FASTGLT_SCREENSHOTS``, a folder, the screenshots are
left there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from sample_cells import study

from fastglt.report.html import make_report

FOLDER = os.environ.get("FASTGLT_BROWSER")
PROGRAM = Path(__file__).with_name("browser.mjs")


def brightness(colour: str) -> int:
    """0 for black, 765 for white."""
    return sum(int(each) for each in re.findall(r"\d+", colour)[:3])


@pytest.mark.slow
@pytest.mark.skipif(FOLDER is None, reason="FASTGLT_BROWSER is not set")
def test_the_page_can_be_read_at_any_width_in_light_and_dark(tmp_path):
    page = tmp_path / "report.html"
    cells = study(seeds=3, budgets=[(0.0, 0.9), (0.3, 0.95)])
    page.write_text(make_report(cells).html, encoding="utf-8")
    shots = Path(os.environ.get("FASTGLT_SCREENSHOTS", tmp_path))
    # Read from standard input, so that its imports are looked up in the folder.
    with PROGRAM.open() as program:
        result = subprocess.run(
            ["node", "--input-type=module", "-", page.as_uri(), str(shots.resolve())],
            stdin=program,
            cwd=FOLDER,
            capture_output=True,
            text=True,
            check=True,
            timeout=180,
        )
    seen = json.loads(result.stdout)
    assert [(each["width"], each["scheme"]) for each in seen] == [
        (1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")
    ]  # fmt: skip
    for each in seen:
        assert each["problems"] == []
        assert each["scroll"] <= each["width"]
        assert each["smallest"] > 8
        paper, ink = brightness(each["background"]), brightness(each["ink"])
        assert (paper > ink) == (each["scheme"] == "light")
        assert abs(paper - ink) > 400
    assert len(list(shots.glob("report-*.png"))) == 4
