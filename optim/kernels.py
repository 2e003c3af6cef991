"""Triton kernels that step all tensors of a list in one launch: LAMB, COCOB, SAM and moving averages.

Each program steps one chunk of one tensor, which it finds in an `optim._table.Table`. It reads and writes 16 bytes at a
time where the tensors are aligned, except in the last part of a tensor. Everything is computed in float32, whatever the
type of the tensors, and sums are added in a fixed order. No launch waits for the host, nor the host for a launch.

Accesses of the parameters' size: LAMB 10, COCOB 12, SAM 7 (of which 2 put the weights back), a moving average 3.
"""

import triton
import triton.language as tl

from ._blocks import BLOCK, LENGTH, place, read, row, span, total, write

# LAMB. Rows of the table: w, m, v, step, number of elements, first chunk, place of the ratio (-1: not adapted).


@triton.jit
def direction(w, m, v, eps, scale, weight_decay):
    """Return `r + lambda w` of Algorithm 2; see `optim.lamb.corrected` for `eps` and `scale`."""
    return scale * (m / (tl.sqrt(v) + eps)) + weight_decay * w


@triton.jit
def lamb_block(
    w, g, m, v, at, left, lr, eps, scale, decay, rest1, rest2, sign, adapted,
    FULL: tl.constexpr, ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Step a block of the moments, and of weights that are not adapted; return the elements' squares of w and r."""
    weight = read(w, at, left, FULL, ALIGNED, False)
    grad = sign * read(g, at, left, FULL, G_ALIGNED, True)
    first = read(m, at, left, FULL, ALIGNED, False)
    second = read(v, at, left, FULL, ALIGNED, False)
    first += rest1 * (grad - first)
    second += rest2 * (grad * grad - second)
    write(m, first, at, left, FULL, ALIGNED)
    write(v, second, at, left, FULL, ALIGNED)
    # As they are stored, and as the second launch reads them.
    first = first.to(m.dtype.element_ty).to(tl.float32)
    second = second.to(v.dtype.element_ty).to(tl.float32)
    r = direction(weight, first, second, eps, scale, decay)
    if not adapted:
        write(w, weight - lr * r, at, left, FULL, ALIGNED)
    if not FULL:
        r = tl.where(at + tl.arange(0, BLOCK) < left, r, 0.0)  # 0 / 0 beyond the end if eps is 0
    return weight * weight, r * r


@triton.jit(do_not_specialize=["count", "chunks"])
def lamb_moments(
    table, items, grads, sums, corrections, lr, eps, decay, rest1, rest2, log1, log2, sign, count, chunks,
    W: tl.constexpr, G: tl.constexpr, M: tl.constexpr, LR_IS_TENSOR: tl.constexpr, CORRECTED: tl.constexpr,
    ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Step the moments, and add the squares of w and r chunk by chunk; `sums` is [2, chunks]."""
    item = tl.program_id(0)
    tensor, part = tl.load(items + item), tl.load(items + chunks + item)
    start, left, full = span(table, 4, count, tensor, part)
    w, m = place(table, 0, count, tensor, start, W), place(table, 1, count, tensor, start, M)
    v, g = place(table, 2, count, tensor, start, M), place(grads, 0, count, tensor, start, G)
    adapted = row(table, 6, count, tensor) >= 0
    decay = tl.where(adapted, decay, 0.0)
    rate = lr
    if LR_IS_TENSOR:
        rate = tl.load(lr).to(tl.float32)
    corrected_eps, scale = eps, 1.0
    if CORRECTED:  # 1 - beta^t cancels: in float64
        t = (tl.load(row(table, 3, count, tensor).to(tl.pointer_type(tl.float32))) + 1).to(tl.float64)
        root = tl.sqrt(1 - tl.exp(t * log2)).to(tl.float32)
        corrected_eps, scale = eps * root, root / (1 - tl.exp(t * log1)).to(tl.float32)
    if part == 0:
        tl.store(corrections + tensor, corrected_eps)
        tl.store(corrections + count + tensor, scale)
    w_squares, r_squares = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for at in range(0, full, BLOCK):
        by_w, by_r = lamb_block(
            w, g, m, v, at, left, rate, corrected_eps, scale, decay, rest1, rest2, sign, adapted,
            True, ALIGNED, G_ALIGNED,
        )  # fmt: skip
        w_squares += by_w
        r_squares += by_r
    if full < left:
        by_w, by_r = lamb_block(
            w, g, m, v, full, left, rate, corrected_eps, scale, decay, rest1, rest2, sign, adapted,
            False, ALIGNED, G_ALIGNED,
        )  # fmt: skip
        w_squares += by_w
        r_squares += by_r
    tl.store(sums + item, tl.sum(w_squares))
    tl.store(sums + chunks + item, tl.sum(r_squares))


@triton.jit
def lamb_weights_block(w, m, v, at, left, rate, eps, scale, decay, FULL: tl.constexpr, ALIGNED: tl.constexpr):
    """Move a block of weights along its direction."""
    weight = read(w, at, left, FULL, ALIGNED, True)
    first, second = read(m, at, left, FULL, ALIGNED, True), read(v, at, left, FULL, ALIGNED, True)
    write(w, weight - rate * direction(weight, first, second, eps, scale, decay), at, left, FULL, ALIGNED)


@triton.jit(do_not_specialize=["count", "chunks", "visits"])
def lamb_weights(
    table, items, sums, corrections, ratios, lr, decay, low, high, count, chunks, visits,
    W: tl.constexpr, M: tl.constexpr, LR_IS_TENSOR: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Move the weights by `lr` times their ratio along r, and count the step; `items` names each tensor once at least.

    The chunks come in the opposite order of `lamb_moments`: those that it has used last are still in the cache.
    """
    item = visits - 1 - tl.program_id(0)
    tensor, part = tl.load(items + item), tl.load(items + visits + item)
    slot = row(table, 6, count, tensor)
    if part == 0:
        step = row(table, 3, count, tensor).to(tl.pointer_type(tl.float32))
        tl.store(step, tl.load(step) + 1)
    if slot >= 0:
        start, left, full = span(table, 4, count, tensor, part)
        w, m = place(table, 0, count, tensor, start, W), place(table, 1, count, tensor, start, M)
        v = place(table, 2, count, tensor, start, M)
        mine = sums + row(table, 5, count, tensor)
        number = (row(table, 4, count, tensor) + LENGTH - 1) // LENGTH
        w_norm, r_norm = tl.sqrt(total(mine, number)), tl.sqrt(total(mine + chunks, number))
        phi = tl.minimum(tl.maximum(w_norm, low), high)
        ratio = tl.where((w_norm > 0) & (r_norm > 0), phi / r_norm, 1.0)
        if part == 0:
            tl.store(ratios + slot, ratio)
        rate = lr
        if LR_IS_TENSOR:
            rate = tl.load(lr).to(tl.float32)
        rate = rate * ratio
        eps, scale = tl.load(corrections + tensor), tl.load(corrections + count + tensor)
        for at in range(0, full, BLOCK):
            lamb_weights_block(w, m, v, at, left, rate, eps, scale, decay, True, ALIGNED)
        if full < left:
            lamb_weights_block(w, m, v, full, left, rate, eps, scale, decay, False, ALIGNED)


# COCOB. Rows of the table: w and the five tensors of the state.


@triton.jit
def cocob_block(
    w, g, initial, theta, gradient_sum, max_gradient, reward, at, left, alpha, decay, sign,
    FULL: tl.constexpr, ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Play one round with a block, as `optim.cocob.cocob_update` does."""
    weight = read(w, at, left, FULL, ALIGNED, True)
    begin = read(initial, at, left, FULL, ALIGNED, True)
    grad = sign * read(g, at, left, FULL, G_ALIGNED, True) + decay * weight
    size = tl.abs(grad)
    most = tl.maximum(read(max_gradient, at, left, FULL, ALIGNED, True), size, propagate_nan=tl.PropagateNan.ALL)
    amount = read(gradient_sum, at, left, FULL, ALIGNED, True) + size
    won = read(reward, at, left, FULL, ALIGNED, True) - (weight - begin) * grad
    won = tl.maximum(won, 0.0, propagate_nan=tl.PropagateNan.ALL)
    direct = read(theta, at, left, FULL, ALIGNED, True) - grad
    bet = tl.div_rn(most + won, tl.maximum(amount + most, alpha * most, propagate_nan=tl.PropagateNan.ALL))
    write(w, begin + direct * tl.div_rn(bet, most), at, left, FULL, ALIGNED)
    write(theta, direct, at, left, FULL, ALIGNED)
    write(gradient_sum, amount, at, left, FULL, ALIGNED)
    write(max_gradient, most, at, left, FULL, ALIGNED)
    write(reward, won, at, left, FULL, ALIGNED)


@triton.jit(do_not_specialize=["count", "chunks"])
def cocob(
    table, items, grads, alpha, decay, sign, count, chunks,
    W: tl.constexpr, G: tl.constexpr, S: tl.constexpr, ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Play one round of COCOB with every element."""
    item = tl.program_id(0)
    tensor, part = tl.load(items + item), tl.load(items + chunks + item)
    start, left, full = span(table, 6, count, tensor, part)
    w, g = place(table, 0, count, tensor, start, W), place(grads, 0, count, tensor, start, G)
    initial, theta = place(table, 1, count, tensor, start, S), place(table, 2, count, tensor, start, S)
    amount, most = place(table, 3, count, tensor, start, S), place(table, 4, count, tensor, start, S)
    won = place(table, 5, count, tensor, start, S)
    for at in range(0, full, BLOCK):
        cocob_block(w, g, initial, theta, amount, most, won, at, left, alpha, decay, sign, True, ALIGNED, G_ALIGNED)
    if full < left:
        cocob_block(w, g, initial, theta, amount, most, won, full, left, alpha, decay, sign, False, ALIGNED, G_ALIGNED)


# SAM. Rows of the table: w, its copy.


@triton.jit
def lengths(w, at, left, eta, ADAPTIVE: tl.constexpr, FULL: tl.constexpr, ALIGNED: tl.constexpr):
    """Return T of a block: |w| + eta, or 1 if not adaptive."""
    result = tl.full([BLOCK], 1.0, tl.float32)
    if ADAPTIVE:
        result = tl.abs(read(w, at, left, FULL, ALIGNED, False)) + eta
    return result


@triton.jit(do_not_specialize=["count", "chunks"])
def sam_squares(
    table, items, grads, sums, eta, count, chunks,
    W: tl.constexpr, G: tl.constexpr, ADAPTIVE: tl.constexpr, ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Add the squares of T g chunk by chunk."""
    item = tl.program_id(0)
    tensor, part = tl.load(items + item), tl.load(items + chunks + item)
    start, left, full = span(table, 2, count, tensor, part)
    w, g = place(table, 0, count, tensor, start, W), place(grads, 0, count, tensor, start, G)
    squares = tl.zeros([BLOCK], tl.float32)
    for at in range(0, full, BLOCK):
        scaled = lengths(w, at, left, eta, ADAPTIVE, True, ALIGNED) * read(g, at, left, True, G_ALIGNED, False)
        squares += scaled * scaled
    if full < left:
        scaled = lengths(w, full, left, eta, ADAPTIVE, False, ALIGNED) * read(g, full, left, False, G_ALIGNED, False)
        squares += scaled * scaled
    tl.store(sums + item, tl.sum(squares))


@triton.jit
def sam_climb_block(
    w, copy, g, at, left, eta, scale,
    ADAPTIVE: tl.constexpr, FULL: tl.constexpr, ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Copy a block of weights, and add `scale` T² g to it unless `scale` is 0 (g may then be infinite)."""
    weight, grad = read(w, at, left, FULL, ALIGNED, False), read(g, at, left, FULL, G_ALIGNED, True)
    t = lengths(w, at, left, eta, ADAPTIVE, FULL, ALIGNED)
    write(copy, weight, at, left, FULL, ALIGNED)
    write(w, tl.where(scale == 0, weight, weight + scale * (t * t * grad)), at, left, FULL, ALIGNED)


@triton.jit(do_not_specialize=["count", "chunks", "parts"])
def sam_climb(
    table, items, grads, sums, squared, rho, eta, count, chunks, parts,
    W: tl.constexpr, G: tl.constexpr, ADAPTIVE: tl.constexpr, ALIGNED: tl.constexpr, G_ALIGNED: tl.constexpr,
):  # fmt: skip
    """Keep the weights and move them to the worst point nearby, or nowhere if |T g|² is 0 or not finite."""
    item = chunks - 1 - tl.program_id(0)  # in the opposite order of `sam_squares`, for the cache
    tensor, part = tl.load(items + item), tl.load(items + chunks + item)
    start, left, full = span(table, 2, count, tensor, part)
    w, copy = place(table, 0, count, tensor, start, W), place(table, 1, count, tensor, start, W)
    g = place(grads, 0, count, tensor, start, G)
    whole = total(sums, parts)
    if item == 0:
        tl.store(squared, whole)
    scale = tl.where((whole > 0) & (whole < float("inf")), rho / tl.sqrt(whole), 0.0)
    for at in range(0, full, BLOCK):
        sam_climb_block(w, copy, g, at, left, eta, scale, ADAPTIVE, True, ALIGNED, G_ALIGNED)
    if full < left:
        sam_climb_block(w, copy, g, full, left, eta, scale, ADAPTIVE, False, ALIGNED, G_ALIGNED)


@triton.jit(do_not_specialize=["count", "chunks"])
def sam_restore(table, items, count, chunks, W: tl.constexpr, ALIGNED: tl.constexpr):
    """Copy the weights back."""
    item = tl.program_id(0)
    tensor, part = tl.load(items + item), tl.load(items + chunks + item)
    start, left, full = span(table, 2, count, tensor, part)
    w, copy = place(table, 0, count, tensor, start, W), place(table, 1, count, tensor, start, W)
    for at in range(0, full, BLOCK):
        write(w, read(copy, at, left, True, ALIGNED, True), at, left, True, ALIGNED)
    if full < left:
        write(w, read(copy, full, left, False, ALIGNED, True), full, left, False, ALIGNED)


# Moving average. Rows of the table: average, tensor.


@triton.jit
def average_block(average, x, at, left, share, FULL: tl.constexpr, ALIGNED: tl.constexpr):
    """Move a block of the average by `share` of its distance."""
    old = read(average, at, left, FULL, ALIGNED, True)
    write(average, old + share * (read(x, at, left, FULL, ALIGNED, True) - old), at, left, FULL, ALIGNED)


@triton.jit(do_not_specialize=["count", "chunks"])
def average(table, items, share, count, chunks, A: tl.constexpr, X: tl.constexpr, ALIGNED: tl.constexpr):
    """Move each average by `share` of its distance to the tensor."""
    item = tl.program_id(0)
    tensor, part = tl.load(items + item), tl.load(items + chunks + item)
    start, left, full = span(table, 2, count, tensor, part)
    a, x = place(table, 0, count, tensor, start, A), place(table, 1, count, tensor, start, X)
    for at in range(0, full, BLOCK):
        average_block(a, x, at, left, share, True, ALIGNED)
    if full < left:
        average_block(a, x, full, left, share, False, ALIGNED)
