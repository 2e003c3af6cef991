"""Newton and Schulz's orthogonalisation, and tensors as the matrices that it takes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from ._layout import memory_order


def orthogonalised(matrices: Tensor, steps: int, coefficients: Sequence[float], eps: float) -> Tensor:
    """Return the matrices `[B, m, n]`, m <= n, with their singular values moved to about 1 by Newton and Schulz.

    Each step is X <- a X + (b X X' + c (X X')^2) X, from a matrix that is divided by its Frobenius norm.

    Args:
        matrices: The matrices, in the type in which this computes.
        steps: Number of steps.
        coefficients: a, b and c.
        eps: Smallest norm to divide by.

    >>> orthogonalised(torch.diag(torch.tensor([3.0, 1.0]))[None], 8, (1.5, -0.5, 0.0), 1e-7)[0].round(decimals=3)
    tensor([[1., 0.],
            [0., 1.]])
    """
    a, b, c = coefficients
    x = matrices / torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def as_matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor `[O, I, ...]` as a matrix, whole if it is a DTensor.

    The columns have the order of `like` in memory, which is a view in channels-last format; it changes no update.

    >>> as_matrix(torch.ones(4, 3, 2, 2), torch.ones(4, 3, 2, 2)).shape
    torch.Size([4, 12])
    """
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.permute(_order(like)).reshape(len(whole), -1)


def as_tensor(matrix: Tensor, like: Tensor) -> Tensor:
    """Return the tensor whose `as_matrix` this is; of a DTensor, in which every process has the whole, its part."""
    order = _order(like)
    tensor = matrix.reshape([like.shape[dim] for dim in order])
    tensor = tensor.permute([order.index(dim) for dim in range(like.ndim)])
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.contiguous(), like.device_mesh, like.placements, src_data_rank=None)
    return tensor


def _order(tensor: Tensor) -> list[int]:
    return [0, *(dim for dim in memory_order(tensor) if dim != 0)]
