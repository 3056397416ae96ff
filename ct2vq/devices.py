"""Devices made ready so that they compute the same each time, for training and for synthesis.

What concerns CUDA cannot be tested on a machine without a GPU; it is kept to torch's documented recipe:
https://docs.pytorch.org/docs/stable/notes/randomness.html
"""

from __future__ import annotations

import os

import torch

from ct2vq.errors import Ct2vqError


def make_repeatable(threads: int) -> None:
    """Deterministic algorithms, a fixed number of threads, and no arithmetic below what the precision promises.

    TensorFloat-32 has a mantissa of 10 bits: single precision would be so in name only, and the variances of a loss
    computed in it cancel. Mixed precision needs it nowhere: autocast chooses its own types.
    """
    # cuBLAS reads it when CUDA starts
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # the same as `use_deterministic_algorithms`, which beside it imports the compiler for two seconds
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def require_device(device: str, number: int = 1, error: type[Ct2vqError] = Ct2vqError) -> None:
    """Stop where there is no such device, or not as many.

    Raises:
        Ct2vqError: or the class given.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise error("no CUDA device is available", key="train.device", hint="set it to cpu, or run where a GPU is")
    if device == "cuda" and number > torch.cuda.device_count():
        raise error(f"there are {torch.cuda.device_count()} GPUs, not {number}", key="train.devices")
    if device == "mps" and not torch.backends.mps.is_available():
        raise error("no MPS device is available", key="train.device", hint="set it to cpu")
    if device == "mps" and number > 1:
        raise error("there is one MPS device", key="train.devices", hint="set it to 1")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: CUDA's class of errors, numpy's, or what the CPU's and MPS's allocators say."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in said or "out of memory" in said)
