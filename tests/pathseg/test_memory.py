import sys
from types import SimpleNamespace

import pytest
import torch

from pathseg import memory
from pathseg.errors import ResourceError
from pathseg.memory import memory_errors_explained


def raised_as(error):
    """Return what becomes of an error."""
    with pytest.raises(Exception) as caught, memory_errors_explained(torch.device("cpu"), "use less"):  # noqa: PT011
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=str,
)
def test_a_want_of_memory_says_what_to_do(error):
    assert str(raised_as(error)) == "the memory of cpu is used up; use less"


def test_what_pytorch_says_on_the_cpu_is_known():
    with pytest.raises(ResourceError), memory_errors_explained(torch.device("cpu"), "use less"):
        torch.empty(2**60)


@pytest.mark.parametrize(
    "text",
    ["CUDA error: an illegal memory access was encountered", "Unsupported memory format option Preserve"],
)
def test_other_errors_that_speak_of_memory_stay_what_they_are(text):
    error = RuntimeError(text)
    assert raised_as(error) is error


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says how much a process holds")
@pytest.mark.parametrize(("above", "times"), [(0, 1), (2**60, 0)])
def test_memory_is_given_back_by_a_process_that_holds_much(monkeypatch, above, times):
    asked = []
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=asked.append))
    memory.give_back_memory(above)
    assert len(asked) == times
