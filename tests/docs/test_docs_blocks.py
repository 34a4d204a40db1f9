"""Every command and every code block of the README and the documentation is run."""

from __future__ import annotations

import importlib.util
import itertools
import os

import doc_runner
import pytest
import yaml
from doc_blocks import DIRECTIVES, DOCS, INCLUDE, LANGUAGES, PAGES, ROOT, Block, blocks_of

from fastglt.data import load
from fastglt.errors import DatasetNotFoundError

REAL, RAY = "needs real data", "needs ray"
BLOCKS = {page: blocks_of(page) for page in PAGES}
LINKED = (ROOT / "benchmarks", ROOT / "examples")
INSTALLS = ("pip install ", "git clone ", "make", "source ", "python -m venv ")
MOST_SKIPPED = 8
MANY_PROCESSES = ("torchrun", "--ray")
"""What starts so many that a page takes a minute."""


def _case(page):
    needs_data = any(block.directive == REAL for block in BLOCKS[page])
    marks = [pytest.mark.real] if needs_data else []
    if any(block.directive == RAY for block in BLOCKS[page]):
        has_ray = importlib.util.find_spec("ray") is not None
        marks.append(pytest.mark.skipif(not has_ray, reason="the extra ray is not installed"))
    if any(text in block.code for block in BLOCKS[page] for text in MANY_PROCESSES):
        marks.append(pytest.mark.slow)
    return pytest.param(page, id=page.relative_to(ROOT).as_posix(), marks=marks)


CASES = [_case(page) for page in PAGES]


@pytest.fixture
def _dataset(request, shared_cache, monkeypatch):
    """Skips a page that needs a dataset where there is none, as the tests in tests/real do."""
    if request.node.get_closest_marker("real") is None:
        return
    monkeypatch.setenv("FASTGLT_CACHE", str(shared_cache))
    try:
        load("citeseer")
    except DatasetNotFoundError as error:
        if os.environ.get("FASTGLT_DATA"):
            raise
        pytest.skip(str(error))


@pytest.mark.usefixtures("_dataset")
@pytest.mark.parametrize("page", CASES)
def test_every_block_of_the_page_runs(page, tmp_path):
    with doc_runner.Page(tmp_path, LINKED) as run:
        for block in BLOCKS[page]:
            run.run(block)


def test_every_page_is_in_the_navigation_and_has_its_case():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert _navigation() == pages
    assert {case.values[0] for case in CASES} == {ROOT / "README.md", *DOCS.rglob("*.md")}
    assert len(pages) > 15


def _navigation():
    class Loader(yaml.SafeLoader):
        """Knows none of mkdocs's tags, which name Python functions."""

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)

    def leaves(entry):
        if isinstance(entry, str):
            return {entry}
        children = entry.values() if isinstance(entry, dict) else entry
        return set().union(*map(leaves, children))

    return leaves(config["nav"])


def test_nothing_escapes_by_its_language():
    for block in itertools.chain.from_iterable(BLOCKS.values()):
        allowed = {INCLUDE} if block.included else LANGUAGES
        assert block.language in allowed, f"{block.where}: {block.language}"
        assert not block.directive or block.directive.startswith(DIRECTIVES), block.where
        assert block.language != "toml" or block.title, f"{block.where}: a file needs a title"
        if block.is_output:
            first = block.code.split(maxsplit=1)[0]
            assert first not in ("$", "fastglt", "python", "pip", "import", "from"), block.where
        if block.included is not None:
            assert block.included.startswith("examples/"), block.where  # run by test_examples.py
            assert (ROOT / block.included).is_file()


def test_only_installations_are_skipped():
    skipped = [block for blocks in BLOCKS.values() for block in blocks if block.skipped]
    for block in skipped:
        assert all(command.startswith(INSTALLS) for command in block.commands), block.where
    assert len(skipped) <= MOST_SKIPPED


def test_most_pages_have_something_to_run():
    run = [
        block
        for blocks in BLOCKS.values()
        for block in blocks
        if not (block.is_output or block.skipped or block.title or block.included)
    ]
    assert len(run) > 40
    assert len({block.page for block in run}) > 10


def _block(language, code, directive="", title=None):
    return Block(ROOT / "README.md", 1, language, title, code, directive)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (_block("python", "x = 1\nraise KeyError(x)\n"), "raised KeyError instead of None"),
        (_block("python", "x = 1\n", "raises KeyError"), "raised None instead of KeyError"),
        (_block("python", "import warnings\nwarnings.warn('careful')\n"), "warned"),
        (_block("bash", "false\ntrue\n"), "exit code 1 instead of 0 of 'false'"),
        (_block("bash", "fastglt show nothing\n"), "exit code 2 instead of 0"),
        (_block("console", "$ fastglt --version\n", "exit 2"), "exit code 0 instead of 2"),
        (_block("bash", "fastglt datasets\n", "--jason"), "exit code 2 instead of 0"),
        (_block("text", "another thing\n", "output"), "this was not printed"),
    ],
)
def test_a_wrong_block_is_noticed(block, message, tmp_path):
    with doc_runner.Page(tmp_path) as run, pytest.raises(doc_runner.PageError, match=message):
        run.run(block)


def test_blocks_of_a_page_share_names_and_files(tmp_path):
    with doc_runner.Page(tmp_path) as run:
        run.run(_block("python", "two = 2\n"))
        run.run(_block("toml", "a = 1\n", title="a.toml"))
        run.run(_block("python", "print(two, open('a.toml').read())\n"))
        run.run(_block("text", "2 a = 1\n", "output"))
        run.run(_block("bash", "fastglt \\\n    --version\n"))
        run.run(_block("text", "fastglt 0.", "output"))


def test_blocks_are_found_where_they_stand(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n<!-- test: skip, it installs -->\n```bash\npip install x\n```\n\n"
        '- item\n\n    ```toml title="run.toml"\n    a = 1\n\n    b = 2\n    ```\n'
    )
    first, second = blocks_of(page)
    assert (first.language, first.line, first.skipped) == ("bash", 5, True)
    assert (second.title, second.line, second.code) == ("run.toml", 11, "a = 1\n\nb = 2\n")
    page.write_text("```python\nx = 1\n")
    with pytest.raises(AssertionError, match="not closed"):
        blocks_of(page)
