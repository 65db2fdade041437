"""One function for both: where the first array lies decides which kernel runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mixpriv import cuda

_P = ParamSpec("_P")
_R = TypeVar("_R")


def on_its_device(kernel: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run `mixpriv.cuda`'s function of the same name where the first array lies on a CUDA device.

    ``threads`` means the processor's and is not handed on.
    """
    name = kernel.__name__
    first = next(iter(inspect.signature(kernel).parameters))
    on_cuda = getattr(cuda, name)

    @functools.wraps(kernel)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not cuda.is_device_array(args[0] if args else kwargs.get(first)):
            return kernel(*args, **kwargs)
        kwargs.pop("threads", None)
        result: _R = on_cuda(*args, **kwargs)
        return result

    return run
