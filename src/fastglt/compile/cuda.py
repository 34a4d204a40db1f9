"""What only a CUDA device can do with a compiled model: half precision and graphs of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastglt.compile.compiled import Compiled
from fastglt.errors import FastGLTError

HALF = torch.float16
WARM_UP = 3
"""Calls on the stream of the capture before it, which allocate and choose what is reused."""

Predict = Callable[[], Tensor]


def cuda_variants(
    compiled: Compiled, compile_half: Callable[[], Compiled]
) -> tuple[dict[str, Predict], dict[str, str]]:
    """Further ways to predict, and why some of them cannot be had here.

    Args:
        compiled: The model as it was compiled.
        compile_half: Compiles it in half precision.
    """
    makers: dict[str, Callable[[], Predict]] = {
        "compiled_half": lambda: compile_half().predict,
        "compiled_graph": lambda: captured(compiled.predict),
    }
    found: dict[str, Predict] = {}
    failed: dict[str, str] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (FastGLTError, RuntimeError) as error:  # what torch raises for what it cannot do
            failed[name] = str(error).partition("\n")[0]
    return found, failed


def captured(call: Predict) -> Predict:
    """A call as a CUDA graph: its kernels are launched at once. Outputs are overwritten next time.

    Raises:
        RuntimeError: If the call does what cannot be captured, such as waiting for the device.
    """
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay
