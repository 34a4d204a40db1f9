"""The code blocks of the documentation's pages, and what is to be done with each.

A block is run by its language: ``python`` blocks of a page one after the other in one namespace,
``bash`` and ``console`` blocks as commands (of the latter the lines that start with ``$``). A block
with a title is a file of that name. One without a language, or with ``text``, is output.

A comment before a block changes that::

    <!-- test: skip, REASON -->           installs something or needs a GPU; not run
    <!-- test: needs real data -->        the whole page needs the dataset CiteSeer
    <!-- test: needs ray -->              the whole page needs the extra ray
    <!-- test: raises NAME -->            Python code that ends with this exception
    <!-- test: exit CODE -->              commands of which the last ends with this code
    <!-- test: --OPTION VALUE ... -->     options that each command gets besides, to be shorter
    <!-- test: output -->                 before output: the block above really printed it
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
LANGUAGES = {"python", "bash", "console", "toml", "text", ""}
INCLUDE = "{.python}"
"""What stands after the fence of a file of the repository that is shown as it is."""
DIRECTIVES = ("skip, ", "needs real data", "needs ray", "raises ", "exit ", "output", "--")

_FENCE = re.compile(r"( *)(`{3,}|~{3,}) *(\S*) *(.*)")
_COMMENT = re.compile(r" *<!-- test: (.*) -->")
_TITLE = re.compile(r'title="([^"]+)"')
_INCLUDE = re.compile(r'--8<-- "([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The file it stands in.
        line: Number of its first line of code, from 1.
        language: As after the fence.
        title: Name of the file that it shows, if it does.
        code: Without indentation.
        directive: What a comment before it says, else empty.
    """

    page: Path
    line: int
    language: str
    title: str | None
    code: str
    directive: str

    @property
    def where(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def skipped(self):
        return self.directive.startswith("skip, ")

    def argument(self, directive):
        """What stands after the name of a directive, or ``None`` if there is another one."""
        name, _, rest = self.directive.partition(" ")
        return rest if name == directive else None

    @property
    def included(self):
        """The file of the repository that the block shows as it is, else ``None``."""
        match = _INCLUDE.fullmatch(self.code.strip())
        return match[1] if match else None

    @property
    def is_output(self):
        return self.title is None and self.language in ("", "text")

    @property
    def commands(self):
        """The commands of a shell block, one string each."""
        lines = self.code.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        stripped = (line.strip() for line in lines)
        commands = [line for line in stripped if line and not line.startswith("#")]
        if not self.directive.startswith("--"):
            return commands
        return [f"{command} {self.directive}" for command in commands]


def blocks_of(page):
    """All blocks of a page, in order."""
    blocks, directive, opening = [], "", None
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if opening is None:
            if match := _FENCE.fullmatch(line):
                opening, code = match, []
            elif line.strip():
                comment = _COMMENT.fullmatch(line)
                directive = comment[1] if comment else ""
        elif line.strip() == opening[2] and line.startswith(opening[1]):
            title = _TITLE.search(opening[4])
            blocks.append(
                Block(
                    page,
                    number - len(code),
                    opening[3],
                    title[1] if title else None,
                    textwrap.dedent("\n".join(code)) + "\n",
                    directive,
                )
            )
            directive, opening = "", None
        else:
            code.append(line)
    assert opening is None, f"{page}: the last fence is not closed"
    return blocks
