"""Build the wheel, look into it, install it into an empty environment and use it there.

The wheel must hold the package's files, all of them and nothing else. The environment has nothing
but the wheel and what it depends on, and the commands run in a folder outside the repository.

    python tools/try_wheel.py
    python tools/try_wheel.py --pip-args="--index-url https://..." --torch-args="--index-url ..."
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE")
MUST_HAVE = ("py.typed", "compile/native/kernels.cpp", "report/template.html.j2", "cli/app.py")
COMMANDS = ("fastglt --version", "fastglt --help", "python smoke.py", "python where.py")


def main() -> None:
    """Run the program."""
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--pip-args", type=shlex.split, default=[], help="for every call of pip")
    top.add_argument("--torch-args", type=shlex.split, default=[], help="for torch alone")
    args = top.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = _step("build", lambda: build(folder, args.pip_args))
        check_content(wheel)
        python = _step("install", lambda: install(folder, wheel, args.pip_args, args.torch_args))
        _step("use", lambda: use(folder / "scratch", python))


def build(folder: Path, pip_args: list[str]) -> Path:
    """The wheel, built from a copy, since setuptools takes stale files of earlier builds too."""
    copy = folder / "copy"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            stale = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(source, copy / name, ignore=stale)
        else:
            shutil.copy(source, copy)
    _pip([sys.executable], "wheel", *pip_args, "--no-deps", f"--wheel-dir={folder}", str(copy))
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    """Refuse a wheel that lacks a file of the package or has one of anything else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    package = ROOT / "src" / "fastglt"
    wanted = {
        f"fastglt/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    must = {f"fastglt/{name}" for name in MUST_HAVE}
    missing, extra = (wanted | must) - names, names - about - wanted
    if missing or extra:
        sys.exit(f"error: {wheel.name} lacks {sorted(missing)} and has beside {sorted(extra)}")
    if not any(name.endswith("/licenses/LICENSE") for name in about):
        sys.exit(f"error: {wheel.name} has no licence")
    print(f"{wheel.name}: {len(wanted)} files, {wheel.stat().st_size / 1000:.0f} kB")


def install(folder: Path, wheel: Path, pip_args: list[str], torch_args: list[str]) -> Path:
    """A new environment with the wheel; its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    shared = [*pip_args, "--no-compile", f"--constraint={ROOT / 'constraints.txt'}"]
    _pip([python], "install", *shared, "--no-deps", *torch_args, "torch")
    _pip([python], "install", *shared, str(wheel))
    _pip([python], "check")
    return python


def use(scratch: Path, python: Path) -> None:
    """Run the commands of the wheel and ``smoke.py``, away from the repository."""
    scratch.mkdir()
    shutil.copy(ROOT / "tools" / "smoke.py", scratch)
    (scratch / "where.py").write_text("import fastglt; print(fastglt.__file__)")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
    output = ""
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        result = subprocess.run(
            [python.with_name(program), *arguments],
            cwd=scratch,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        output = result.stdout
        if result.returncode != 0:
            sys.exit(f"error: exit code {result.returncode} of {command}\n{output}{result.stderr}")
    if not Path(output.strip()).resolve().is_relative_to(python.parents[1].resolve()):
        sys.exit(f"error: another fastglt was used: {output}")


def _pip(python: list[Path | str], *arguments: str) -> None:
    command = [
        *python,
        "-m",
        "pip",
        "--quiet",
        "--quiet",
        "--disable-pip-version-check",
        *arguments,
    ]
    subprocess.run(command, check=True)


def _step(name: str, do: Callable[[], _Result]) -> _Result:
    start = time.perf_counter()
    result = do()
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
