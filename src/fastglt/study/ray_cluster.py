"""Starting, joining and leaving a cluster of Ray (extra ``ray``)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastglt._extras import require
from fastglt._processes import num_cores
from fastglt.errors import InputError

AUTO = "auto"
"""The address that means the cluster of this machine, or else a new one."""
OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for the objects of a local cluster, which are cells and little else."""
_ADDRESS = re.compile(r"(?P<scheme>ray://)?(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
_LONGEST_TEMPORARY = 30  # sockets lie below it, whose paths may have 107 bytes in all
_SECONDS_TO_ANSWER = 10.0


@dataclass(frozen=True)
class Needs:
    """What a run takes of a node.

    Attributes:
        threads: Cores.
        gpus: GPUs, 0 or 1.
    """

    threads: int
    gpus: int

    def __str__(self) -> str:
        cores = f"{self.threads} core{'s' if self.threads > 1 else ''}"
        return f"{cores} and a GPU" if self.gpus else cores


def import_ray() -> Any:
    """The module ``ray``.

    Raises:
        InputError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return require("ray", "ray")


def check_address(address: str) -> None:
    """Refuse what is no address of a cluster.

    Raises:
        InputError: If it is neither ``auto`` nor ``host:port`` nor ``ray://host:port``.
    """
    if address != AUTO and not _ADDRESS.fullmatch(address):
        raise InputError(f"ray must be auto, host:port or ray://host:port (got {address!r})")


class Cluster:
    """A cluster that this process has joined.

    Args:
        address: See :func:`check_address`. ``auto`` joins what ``$RAY_ADDRESS`` or ``ray start``
            on this machine name, or starts a cluster that ends with this process.
        needs: What a run takes.

    Attributes:
        ray: The module.

    Raises:
        InputError: If it cannot be joined or started, or none of its nodes has what a run takes.
    """

    def __init__(self, address: str, needs: Needs) -> None:
        self.ray = import_ray()
        self._temporary: Path | None = None
        check_address(address)
        if self.ray.is_initialized():
            raise InputError("this process has joined a cluster of Ray already; leave it first")
        target = running_cluster() if address == AUTO else address
        try:
            if target is None:
                self._start(needs)
            else:
                self._join(target)
            check_nodes(self.ray.nodes(), needs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the cluster; one that was started here ends, and its files are removed."""
        self.ray.shutdown()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _start(self, needs: Needs) -> None:
        # Read by torch in the workers: threads that wait by spinning slow the other workers down.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        # Ray's workers otherwise give way to all other processes, and a run's seconds are a result.
        os.environ.setdefault("RAY_worker_niceness", "0")
        self._temporary = _short_folder()
        self._init(
            "local",
            "a local cluster of Ray cannot be started",
            num_cpus=max(num_cores(), needs.threads),
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            _temp_dir=str(self._temporary),
        )

    def _join(self, address: str) -> None:
        if address != AUTO and not _answers(address):
            raise InputError(f"no cluster of Ray answers at {address}; is it running?")
        hints = ["set RAY_AUTH_MODE=token if it asks for a token"]
        if not address.startswith("ray://"):
            hints.append("take ray://host:10001 if this machine is none of its nodes")
        self._init(
            address, f"the cluster of Ray at {address} cannot be joined ({', and '.join(hints)})"
        )

    def _init(self, address: str, trouble: str, **limits: Any) -> None:
        try:
            self.ray.init(address, log_to_driver=False, logging_level="ERROR", **limits)
        except (
            RuntimeError, ValueError, OSError, ImportError, self.ray.exceptions.RayError,
        ) as error:  # fmt: skip
            raise InputError(f"{trouble}: {error}") from error


def check_nodes(nodes: Sequence[Mapping[str, Any]], needs: Needs) -> None:
    """Refuse runs that would wait for a node for ever.

    Args:
        nodes: As ``ray.nodes()`` describes them.
        needs: What a run takes.

    Raises:
        InputError: If no node has that.
    """
    found = [node["Resources"] for node in nodes if node["Alive"]]
    sizes = [(each.get("CPU", 0), each.get("GPU", 0)) for each in found]
    if not any(cores >= needs.threads and gpus >= needs.gpus for cores, gpus in sizes):
        listed = ", ".join(f"{cores:g} and {gpus:g}" for cores, gpus in sizes) or "no nodes"
        raise InputError(
            f"a run needs a node with {needs}, which the cluster does not have (got cores and GPUs "
            f"{listed}); start such a node, or ask for less by --threads and --device"
        )


def running_cluster() -> str | None:
    """The address of the cluster that Ray itself would join, ``None`` if there is none.

    Returns:
        ``$RAY_ADDRESS``; or ``auto``, if the cluster that ``ray start`` made here is still there.

    Raises:
        InputError: If ``$RAY_ADDRESS`` is no address.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address and address not in (AUTO, "local"):
        check_address(address)
        return address
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        note = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    # The note outlives a cluster that was killed. Its address is not used itself, because Ray
    # brings its token only where it finds the cluster.
    return AUTO if _ADDRESS.fullmatch(note) and _answers(note) else None


def _answers(address: str) -> bool:
    match = _ADDRESS.fullmatch(address)
    assert match is not None, address
    host, port = match["host"].strip("[]"), int(match["port"])
    try:
        with socket.create_connection((host, port), timeout=_SECONDS_TO_ANSWER):
            return True
    except (OSError, OverflowError):  # the latter by a port above 65535
        return False


def _short_folder() -> Path:
    """A new folder for Ray's sockets and logs."""
    usual = tempfile.gettempdir()
    is_long = len(usual) > _LONGEST_TEMPORARY and Path("/tmp").is_dir()
    return Path(tempfile.mkdtemp(prefix="glt-", dir="/tmp" if is_long else usual))
