"""Runs a shared library that AOTInductor wrote, through its C interface.

torch's own loader holds Python's lock while a graph runs; calls by ctypes release it, so that two threads can compute
two halves of a batch. Names and types of the calls: torch/csrc/inductor/aoti_runtime/interface.h.
"""

import ctypes
import hashlib
import weakref
from collections.abc import Sequence
from pathlib import Path

import torch
from torch._C import _aoti

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_address_of = ctypes.PYFUNCTYPE(_POINTER, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_capsule_of = ctypes.PYFUNCTYPE(ctypes.py_object, _POINTER, ctypes.c_char_p, _POINTER)(
    ("PyCapsule_New", ctypes.pythonapi)
)


def seal(path: Path) -> None:
    """Writes a library's digest beside it: loading one that was cut off, as by a full disk, would end the process.

    Raises:
        OSError: It cannot be written.
    """
    _seal_of(path).write_text(_digest(path), encoding="ascii")


class GraphFailed(Exception):
    """A compiled graph did not compute."""


class Graph:
    """A compiled graph of one output; several threads may call it at once.

    Args:
        path: The shared library, sealed.
        calls: How many may run at the same time; further ones wait.

    Raises:
        OSError: The library is missing, damaged, or made for another torch.
    """

    def __init__(self, path: Path, calls: int) -> None:
        if _seal_of(path).read_bytes() != _digest(path).encode():
            raise OSError(f"{path} is damaged")
        library = ctypes.CDLL(str(path))
        try:
            create, self._run = library.AOTInductorModelContainerCreateWithDevice, library.AOTInductorModelContainerRun
            count, delete = library.AOTInductorModelContainerGetNumInputs, library.AOTInductorModelContainerDelete
        except AttributeError as error:
            raise OSError(f"{path} is no compiled graph") from error
        create.argtypes = [_POINTER, _SIZE, ctypes.c_char_p, ctypes.c_char_p]
        self._run.argtypes = [_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _POINTER]
        count.argtypes, delete.argtypes = [_POINTER, _POINTER], [_POINTER]
        self._container, inputs = _POINTER(), _SIZE()
        if create(ctypes.byref(self._container), calls, b"cpu", None) != 0:
            raise OSError(f"{path} cannot be loaded by this torch")
        weakref.finalize(self, delete, self._container)
        count(self._container, ctypes.byref(inputs))
        self.inputs: int = inputs.value

    def __call__(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Runs it on contiguous tensors of the dtypes that it was compiled for.

        Raises:
            GraphFailed: It takes another number of inputs, or failed; what torch said is on stderr.
        """
        if len(inputs) != self.inputs:
            raise GraphFailed(f"the graph takes {self.inputs} inputs, not {len(inputs)}")
        handles = [_address_of(one, None) for one in _aoti.unsafe_alloc_void_ptrs_from_tensors(list(inputs))]
        taken, given = (_POINTER * len(handles))(*handles), (_POINTER * 1)()
        if self._run(self._container, taken, len(handles), given, 1, None, None) != 0:
            raise GraphFailed("torch's words are on stderr")
        result: torch.Tensor = _aoti.alloc_tensors_by_stealing_from_void_ptrs([_capsule_of(given[0], None, None)])[0]
        return result


def _seal_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
