"""A model of the user's own, named as ``path/to/file.py:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from fastglt.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

DEFAULT_FUNCTION = "build"
"""The function that is called where a spec names only a file."""


def is_own_model(name: str) -> bool:
    """Whether a model's name is a file of the user's own rather than a named backbone."""
    path, _ = _parts(name)
    return path.endswith(".py") or "/" in path or "\\" in path


def model_file(spec: str) -> Path:
    """The file of a spec; it is not run.

    Raises:
        ModelError: If there is no such file, or if it is no Python file.
    """
    path = Path(_parts(spec)[0])
    if path.suffix != ".py":
        raise ModelError(f"model file must end in .py (got {spec!r}); name it as file.py:function")
    if not path.is_file():
        raise ModelError(f"model file {str(path)!r} does not exist or is not a file")
    return path


def absolute_spec(spec: str) -> str:
    """The same model, whatever folder it is built in; a named backbone stays what it is."""
    if not is_own_model(spec):
        return spec
    path, function = _parts(spec)
    return f"{Path(path).absolute()}:{function}"


def load_model(spec: str, num_features: int, num_outputs: int) -> nn.Module:
    """Run a file of the user's own and build the model that it describes.

    The file is run anew at each call, as a module of its own; its folder can be imported from
    while it runs and while the function is called. Random weights come from torch's global random
    state.

    Args:
        spec: ``path/to/file.py:function``, or the file alone for a function called ``build``.
        num_features: First argument of the function: columns of ``x``.
        num_outputs: Second argument: columns of the output.

    Returns:
        What ``function(num_features, num_outputs)`` returns.

    Raises:
        ModelError: If there is no such file or function, if running either raises, or if the
            function returns something else than a module.
    """
    from torch import nn

    path = model_file(spec)
    _, function = _parts(spec)
    with _importable(path.resolve().parent):
        build = _function(_run(path), function, spec)
        try:
            model = build(num_features, num_outputs)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            call = f"{function}({num_features}, {num_outputs})"
            raise ModelError(f"{call} of {str(path)!r} raised {_described(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{function} of {str(path)!r} must return a torch.nn.Module (got "
            f"{type(model).__name__})"
        )
    return model


def _parts(spec: str) -> tuple[str, str]:
    """Path and function; the colon of a Windows drive is part of the path."""
    path, colon, function = spec.rpartition(":")
    if not colon or (function and not function.isidentifier()):
        return spec, DEFAULT_FUNCTION
    return path, function or DEFAULT_FUNCTION


class _Source(SourceFileLoader):
    """Compiles the file as it is now.

    Python's bytecode would stay in use for another file of the same size and second, and be left
    in a folder of the user's.
    """

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _run(path: Path) -> ModuleType:
    # In sys.modules for good, because dataclasses and pickle look classes up there by this name.
    name = f"_fastglt_model_{path.stem}_{uuid.uuid4().hex}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ModelError(f"model file {str(path)!r} cannot be loaded as a Python module")
    if type(found.loader) is SourceFileLoader:
        found.loader = _Source(name, str(path))
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ModelError(f"model file {str(path)!r} raised {_described(error)}") from error
    return module


def _function(module: ModuleType, name: str, spec: str) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function):
        there = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        )
        raise ModelError(
            f"there is no function {name!r} in the file of {spec!r} (it defines "
            f"{', '.join(there) or 'none'})"
        )
    return function


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a sibling may be younger than what Python knows of the folder
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have removed it itself
            sys.path.remove(str(folder))


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
