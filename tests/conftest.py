"""Settings shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache for tests on real data: FASTGLT_CACHE as it was at the start, else a new one."""
    given = os.environ.get("FASTGLT_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(scope="session", autouse=True)
def _isolated_cache(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTGLT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    import torch

    torch.set_num_threads(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With FASTGLT_REQUIRE_DATA set, a test marked ``real`` fails where it would have skipped."""
    report = yield
    required = os.environ.get("FASTGLT_REQUIRE_DATA")
    expected_failure = hasattr(report, "wasxfail")
    if required and report.skipped and not expected_failure and item.get_closest_marker("real"):
        report.outcome = "failed"
        report.longrepr = (
            f"FASTGLT_REQUIRE_DATA is set, but the test was skipped: {report.longrepr}"
        )
    return report


@pytest.fixture(autouse=True)
def _one_thread_on_tiny_graphs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads that wait for each other on a busy machine cost far more than tiny graphs gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if request.node.get_closest_marker("real") else 1)
    yield
    torch.set_num_threads(before)
