"""The papers' denoiser's attention without gradients on a CPU, a few slices or places at a time.

Queries, keys, values and logits are 24 to 96 times as large as the voxels of the first level. Moving them to
memory and back takes longer than the arithmetic, and so does fresh memory, of which the operating system
clears every page. Therefore a layer computes a few thousand tokens at a time into the same buffers, which a
core's cache holds. Each head's matrices are contiguous there, so that a product does not copy them.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

#: Tokens that are computed at once per CPU thread, along the depth and within slices.
DEPTH_TOKENS, SLICE_TOKENS = 512, 1024


def computes(x: torch.Tensor, projection: nn.Module) -> bool:
    """Whether the functions of this file compute ``x``: on a CPU, without gradients and autocast, and by a
    projection that is its weights (one with a low-rank update is not)."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    return isinstance(projection, nn.Linear | nn.Conv2d)


def depth_attention(
    x: torch.Tensor,
    norm: Callable[[torch.Tensor], torch.Tensor],
    to_qkv: torch.Tensor,
    to_out: torch.Tensor,
    turn: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """Residual attention along the depth, separately for each of P places.

    Args:
        x: (B, D, P, C).
        norm: normalises tokens (..., C) before their projection.
        to_qkv: (3 * heads * dim, C), weights of queries, keys and values.
        to_out: (C, heads * dim), weights of the output.
        turn: (D, dim / 2), complex: the rotation of pairs of features of queries and keys.
        bias: (heads, D, D), added to the logits.

    Returns:
        As ``x``.
    """
    heads, depth, _ = bias.shape
    bias = bias[:, None].contiguous()
    result = torch.empty_like(x)
    buffers: _Buffers | None = None
    for case, found in zip(x, result, strict=True):
        for part in parts(x.shape[2], depth, DEPTH_TOKENS):
            some = case[:, part]
            if buffers is None or buffers.places != some.shape[1]:
                buffers = _Buffers(some.shape[1], depth, heads, to_out.shape[1] // heads, x.dtype)
            torch.mm(norm(some).flatten(0, 1), to_qkv.T, out=buffers.qkv)
            attended = buffers.attended(turn, bias)
            torch.add(some, (attended @ to_out.T).view(some.shape), out=found[:, part])
    return result


class _Buffers:
    """Of attention along the depth at some places; tokens are ordered by depth, then by place.

    Attributes:
        places: their number.
        qkv: (tokens, 3 * heads * dim): queries, keys and values, to be written.
    """

    def __init__(self, places: int, depth: int, heads: int, dim: int, dtype: torch.dtype) -> None:
        self.places = places
        self.qkv = torch.empty(depth * places, 3 * heads * dim, dtype=dtype)
        self._by_heads = self.qkv.view(depth, places, 3, heads, dim).permute(2, 3, 1, 0, 4)
        self._of_heads = torch.empty(3, heads, places, depth, dim, dtype=dtype)
        self._logits = torch.empty(heads, places, depth, depth, dtype=dtype)
        last = torch.empty(2, depth * places * heads * dim, dtype=dtype)
        self._attended = last[0].view(heads, places, depth, dim)
        self._together = last[1].view(depth, places, heads, dim)
        #: In half precision, where queries or keys are rotated in single precision, before ``last`` is used.
        self._pairs: torch.Tensor | None = None
        if dtype.itemsize < torch.float32.itemsize:
            self._pairs = last.flatten().view(torch.float32).view(heads, places, depth, dim)

    def attended(self, turn: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(tokens, heads * dim), with the rotation by ``turn`` in single precision and ``bias`` (heads, 1, D,
        D)."""
        for turned, given in zip(self._of_heads[:2], self._by_heads[:2], strict=True):
            pairs = turned if self._pairs is None else self._pairs
            pairs.copy_(given)
            torch.view_as_complex(pairs.unflatten(-1, (-1, 2))).mul_(turn)
            if self._pairs is not None:
                turned.copy_(pairs)
        self._of_heads[2].copy_(self._by_heads[2])
        q, k, v = self._of_heads.flatten(1, 2)
        logits = self._logits.copy_(bias).flatten(0, 1)
        torch.baddbmm(logits, q, k.mT, alpha=q.shape[-1] ** -0.5, out=logits)
        torch.softmax(logits, -1, out=logits)
        torch.bmm(logits, v, out=self._attended.flatten(0, 1))
        self._together.copy_(self._attended.permute(2, 1, 0, 3))
        return self._together.flatten(2).flatten(0, 1)


def linear_attention(
    slices: torch.Tensor, to_qkv: torch.Tensor, to_out: torch.Tensor, offset: torch.Tensor, heads: int
) -> torch.Tensor:
    """Attention within each of N slices, linear in its voxels (Shen et al., Efficient attention, 2021).

    Args:
        slices: (N, L, C), normalised, contiguous: L voxels of a slice.
        to_qkv: (3 * heads * dim, C), weights of queries, keys and values.
        to_out: (C, heads * dim), weights of the output.
        offset: (C,), added to the output.
        heads: their number.

    Returns:
        (N, L, C).
    """
    # Of a head's features, either the values of L voxels or the means over them have to be projected.
    attended = _by_values if slices.shape[1] < slices.shape[2] else _by_means
    result = torch.empty_like(slices)
    for part in parts(len(slices), slices.shape[1], SLICE_TOKENS):
        attended(slices[part], to_qkv, to_out, offset, heads, result[part])
    return result


def _by_values(
    voxels: torch.Tensor,
    to_qkv: torch.Tensor,
    to_out: torch.Tensor,
    offset: torch.Tensor,
    heads: int,
    result: torch.Tensor,
) -> None:
    """Writes ``result`` of some slices in the order of the paper."""
    cases, length, _ = voxels.shape
    dim = to_out.shape[1] // heads
    qkv = (voxels.flatten(0, 1) @ to_qkv.T).view(cases, length, 3, heads, dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
    torch.softmax(q, -1, out=q)
    torch.softmax(k, 1, out=k)
    of_heads = torch.bmm(q, torch.bmm(k.mT, v)).view(cases, heads, length, dim)
    together = of_heads.transpose(1, 2).reshape(cases * length, heads * dim)
    torch.addmm(offset, together, to_out.T, alpha=dim**-0.5, out=result.flatten(0, 1))


def _by_means(
    voxels: torch.Tensor,
    to_qkv: torch.Tensor,
    to_out: torch.Tensor,
    offset: torch.Tensor,
    heads: int,
    result: torch.Tensor,
) -> None:
    """Writes ``result`` of some slices; values and outputs are projected as one, from the means of voxels to
    which the features of the keys attend."""
    cases, length, channels = voxels.shape
    inner = to_out.shape[1]
    to_q, to_k, to_v = to_qkv.chunk(3)
    q = (voxels.flatten(0, 1) @ to_q.T).view(cases, length, heads, -1)
    torch.softmax(q, -1, out=q)
    k = to_k.expand(cases, -1, -1) @ voxels.mT
    torch.softmax(k, -1, out=k)
    means = torch.bmm(k, voxels).unflatten(1, (heads, -1)).transpose(0, 1).flatten(1, 2)
    values = torch.bmm(means, to_v.unflatten(0, (heads, -1)).mT)
    context = torch.bmm(values, to_out.T.unflatten(0, (heads, -1))).unflatten(1, (cases, -1))
    context = context.transpose(0, 1).reshape(cases, inner, channels)
    torch.baddbmm(offset, q.flatten(2), context, alpha=(inner // heads) ** -0.5, out=result)


def parts(cases: int, length: int, tokens: int) -> Iterator[slice]:
    """Consecutive parts of ``cases`` of ``length`` tokens each, with about ``tokens`` per CPU thread."""
    step = max(1, tokens * torch.get_num_threads() // length)
    return (slice(start, min(start + step, cases)) for start in range(0, cases, step))
