"""Compile Triton kernels for an H100 where there is none, from the arguments with which they would be launched."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

POINTERS = {torch.int64: "*i64", torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
POINTERS |= {torch.uint8: "*u8", torch.float64: "*fp64", torch.int32: "*i32"}


class Recorder:
    """Stands for a kernel: compiles it at each launch, and keeps the PTX."""

    def __init__(self, kernel: Any, seen: list[tuple[str, str]]) -> None:
        self.kernel, self.seen = kernel, seen

    def __getitem__(self, grid: Any) -> Any:
        return self

    def __call__(self, *args: Any, **keywords: Any) -> None:
        options = {
            name: keywords.pop(name) for name in ("num_warps", "num_stages", "enable_fp_fusion") if name in keywords
        }
        names = self.kernel.arg_names
        values = {**dict(zip(names, args, strict=False)), **keywords}
        assert set(values) == set(names)
        fixed = {param.name for param in self.kernel.params if param.is_constexpr}
        fixed |= {name for name in names if values[name] is None}
        signature = {name: "constexpr" if name in fixed else kind(values[name]) for name in names}
        aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] == "*"}
        constants = {name: values[name] for name in names if name in fixed}
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants, attrs=aligned)
        compiled = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        self.seen.append((self.kernel.__name__, compiled.asm["ptx"]))


def kind(value: Any) -> str:
    """Return the type under which Triton launches an argument."""
    return POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "fp32" if isinstance(value, float) else "i32"


@contextmanager
def recorded(module: Any, *names: str) -> Iterator[list[tuple[str, str]]]:
    """Compile kernels of a module instead of launching them; yield the list of their names and PTX."""
    seen: list[tuple[str, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
        for name in names:
            patch.setattr(module, name, Recorder(getattr(module, name), seen))
        yield seen


def accesses(ptx: str) -> Counter[str]:
    """Return how many instructions read and write memory of each width, as `ld.v4.b32`."""
    found = re.findall(r"\b(ld|st)\.global(?:\.L1::\w+|\.L2::\w+|\.\w*evict\w*)*((?:\.v\d)?)\.(\w+)", ptx)
    return Counter(f"{kind}{vector}.{width}" for kind, vector, width in found)
