"""Wrong answers to the exercises on the same result in little memory, as students write them."""

import math

import numpy as np

from attn_course.reference import attention


def everything_at_once(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Calls attention with all keys, the mask written out."""
    if callable(mask):
        mask = mask(0, 0, np.arange(q.shape[-2])[:, None], np.arange(k.shape[-2]))
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def mean_of_the_blocks(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Takes the mean of attention to each block of keys."""
    shape = (*q.shape[:-1], k.shape[-2])
    if callable(mask):
        mask = mask(0, 0, np.arange(q.shape[-2])[:, None], np.arange(k.shape[-2]))
    mask, bias = np.broadcast_to(mask, shape), np.broadcast_to(bias, shape)
    parts = []
    for start in range(0, k.shape[-2], block):
        keys = slice(start, start + block)
        parts.append(
            attention(
                q,
                k[..., keys, :],
                v[..., keys, :],
                mask[..., keys],
                bias=bias[..., keys],
                scale=scale,
                softcap=softcap,
            )
        )
    return np.mean(parts, axis=0)


def output_not_corrected(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Corrects the sum when the maximum grows, and not the output."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if callable(mask):
        mask = mask(0, 0, np.arange(q.shape[-2])[:, None], np.arange(k.shape[-2]))
    mask, bias = np.broadcast_to(mask, shape), np.broadcast_to(bias, shape)
    top = np.full((*q.shape[:-1], 1), -1e300)
    total, out = np.zeros_like(top), np.zeros((*q.shape[:-1], v.shape[-1]))
    for start in range(0, k.shape[-2], block):
        keys = slice(start, start + block)
        scores = scale * q @ k[..., keys, :].mT
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        scores = np.where(mask[..., keys], scores + bias[..., keys], -np.inf)
        new = np.maximum(top, scores.max(axis=-1, keepdims=True))
        terms = np.exp(scores - new)
        total = np.exp(top - new) * total + terms.sum(axis=-1, keepdims=True)
        out = out + terms @ v[..., keys, :]
        top = new
    return out / np.where(total == 0, 1, total)


def nothing_corrected(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Subtracts from each block its own maximum and adds up."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if callable(mask):
        mask = mask(0, 0, np.arange(q.shape[-2])[:, None], np.arange(k.shape[-2]))
    mask, bias = np.broadcast_to(mask, shape), np.broadcast_to(bias, shape)
    total = np.zeros((*q.shape[:-1], 1))
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for start in range(0, k.shape[-2], block):
        keys = slice(start, start + block)
        scores = scale * q @ k[..., keys, :].mT
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        scores = np.where(mask[..., keys], scores + bias[..., keys], -np.inf)
        terms = np.exp(scores - np.maximum(scores.max(axis=-1, keepdims=True), -1e300))
        total = total + terms.sum(axis=-1, keepdims=True)
        out = out + terms @ v[..., keys, :]
    return out / np.where(total == 0, 1, total)


def no_maximum(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Adds exponentials of scores as they are, which overflow."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(q.shape[-2]):
        above = below = 0.0
        for start in range(0, k.shape[-2], block):
            j = np.arange(start, min(start + block, k.shape[-2]))
            seen = mask(0, 0, i, j) if callable(mask) else np.broadcast_to(mask, shape)[..., i, j]
            scores = scale * (k[..., j, :] @ q[..., i, :, None])[..., 0]
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            terms = np.exp(scores + np.broadcast_to(bias, shape)[..., i, j]) * seen
            above = above + (terms[..., None] * v[..., j, :]).sum(axis=-2)
            below = below + terms.sum(axis=-1, keepdims=True)
        out[..., i, :] = above / np.where(below == 0, 1, below)
    return out


def hidden_minus_hidden(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Subtracts -inf from -inf where a query sees nothing of the first block."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for row in range(0, q.shape[-2], block):
        rows = slice(row, row + block)
        top = np.full((*q[..., rows, :].shape[:-1], 1), -np.inf)
        total, part = np.zeros_like(top), np.zeros_like(out[..., rows, :])
        for start in range(0, k.shape[-2], block):
            keys = slice(start, start + block)
            i = np.arange(q.shape[-2])[rows, None]
            j = np.arange(k.shape[-2])[keys]
            seen = mask(0, 0, i, j) if callable(mask) else np.broadcast_to(mask, shape)[..., i, j]
            scores = scale * q[..., rows, :] @ k[..., keys, :].mT
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = np.where(seen, scores + np.broadcast_to(bias, shape)[..., i, j], -np.inf)
            new = np.maximum(top, scores.max(axis=-1, keepdims=True))
            terms, factor = np.exp(scores - new), np.exp(top - new)
            total = factor * total + terms.sum(axis=-1, keepdims=True)
            part = factor * part + terms @ v[..., keys, :]
            top = new
        out[..., rows, :] = part / np.where(total == 0, 1, total)
    return out


def positions_within_the_block(
    q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512
):
    """Asks the mask about the numbers of keys within their block."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for row in range(0, q.shape[-2], 64):
        rows = slice(row, row + 64)
        i = np.arange(q.shape[-2])[rows, None]
        top = np.full((*q[..., rows, :].shape[:-1], 1), -1e300)
        total, part = np.zeros_like(top), np.zeros_like(out[..., rows, :])
        for start in range(0, k.shape[-2], block):
            keys = slice(start, start + block)
            j = np.arange(k.shape[-2])[keys]
            if callable(mask):
                seen = mask(0, 0, i, j - start)
            else:
                seen = np.broadcast_to(mask, shape)[..., i, j]
            scores = scale * q[..., rows, :] @ k[..., keys, :].mT
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = np.where(seen, scores + np.broadcast_to(bias, shape)[..., i, j], -np.inf)
            new = np.maximum(top, scores.max(axis=-1, keepdims=True))
            terms, factor = np.exp(scores - new), np.exp(top - new)
            total = factor * total + terms.sum(axis=-1, keepdims=True)
            part = factor * part + terms @ v[..., keys, :]
            top = new
        out[..., rows, :] = part / np.where(total == 0, 1, total)
    return out


def whole_blocks_alone(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Leaves out the keys after the last whole block, unless there is none."""
    keys = max(k.shape[-2] // block * block, min(block, k.shape[-2]))
    if callable(mask):
        mask = mask(0, 0, np.arange(q.shape[-2])[:, None], np.arange(k.shape[-2]))
    shape = (*q.shape[:-1], k.shape[-2])
    mask, bias = np.broadcast_to(mask, shape)[..., :keys], np.broadcast_to(bias, shape)[..., :keys]
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(0, q.shape[-2], 64):
        rows = slice(i, i + 64)
        out[..., rows, :] = attention(
            q[..., rows, :],
            k[..., :keys, :],
            v[..., :keys, :],
            mask[..., rows, :],
            bias=bias[..., rows, :],
            scale=scale,
            softcap=softcap,
        )
    return out


def mask_sliced_as_it_is(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Cuts a tile out of the mask without asking whether it has all rows and columns."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for row in range(0, q.shape[-2], 64):
        rows = slice(row, row + 64)
        i = np.arange(q.shape[-2])[rows, None]
        top = np.full((*q[..., rows, :].shape[:-1], 1), -1e300)
        total, part = np.zeros_like(top), np.zeros_like(out[..., rows, :])
        for start in range(0, k.shape[-2], block):
            keys = slice(start, start + block)
            j = np.arange(k.shape[-2])[keys]
            seen = mask(0, 0, i, j) if callable(mask) else np.asarray(mask)
            if not callable(mask) and seen.ndim:
                seen = seen[..., rows, keys]
            scores = scale * q[..., rows, :] @ k[..., keys, :].mT
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = np.where(seen, scores + np.broadcast_to(bias, shape)[..., i, j], -np.inf)
            new = np.maximum(top, scores.max(axis=-1, keepdims=True))
            terms, factor = np.exp(scores - new), np.exp(top - new)
            total = factor * total + terms.sum(axis=-1, keepdims=True)
            part = factor * part + terms @ v[..., keys, :]
            top = new
        out[..., rows, :] = part / np.where(total == 0, 1, total)
    return out


def bias_sliced_as_it_is(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Cuts a tile out of the bias without asking whether it has all rows and columns."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for row in range(0, q.shape[-2], 64):
        rows = slice(row, row + 64)
        i = np.arange(q.shape[-2])[rows, None]
        top = np.full((*q[..., rows, :].shape[:-1], 1), -1e300)
        total, part = np.zeros_like(top), np.zeros_like(out[..., rows, :])
        for start in range(0, k.shape[-2], block):
            keys = slice(start, start + block)
            j = np.arange(k.shape[-2])[keys]
            seen = mask(0, 0, i, j) if callable(mask) else np.broadcast_to(mask, shape)[..., i, j]
            raised = bias[..., rows, keys] if np.ndim(bias) else bias
            scores = scale * q[..., rows, :] @ k[..., keys, :].mT
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = np.where(seen, scores + raised, -np.inf)
            new = np.maximum(top, scores.max(axis=-1, keepdims=True))
            terms, factor = np.exp(scores - new), np.exp(top - new)
            total = factor * total + terms.sum(axis=-1, keepdims=True)
            part = factor * part + terms @ v[..., keys, :]
            top = new
        out[..., rows, :] = part / np.where(total == 0, 1, total)
    return out


def bias_under_the_cap(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Adds the bias before the softcap."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for row in range(0, q.shape[-2], 64):
        rows = slice(row, row + 64)
        i = np.arange(q.shape[-2])[rows, None]
        top = np.full((*q[..., rows, :].shape[:-1], 1), -1e300)
        total, part = np.zeros_like(top), np.zeros_like(out[..., rows, :])
        for start in range(0, k.shape[-2], block):
            keys = slice(start, start + block)
            j = np.arange(k.shape[-2])[keys]
            seen = mask(0, 0, i, j) if callable(mask) else np.broadcast_to(mask, shape)[..., i, j]
            scores = scale * q[..., rows, :] @ k[..., keys, :].mT
            scores = scores + np.broadcast_to(bias, shape)[..., i, j]
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = np.where(seen, scores, -np.inf)
            new = np.maximum(top, scores.max(axis=-1, keepdims=True))
            terms, factor = np.exp(scores - new), np.exp(top - new)
            total = factor * total + terms.sum(axis=-1, keepdims=True)
            part = factor * part + terms @ v[..., keys, :]
            top = new
        out[..., rows, :] = part / np.where(total == 0, 1, total)
    return out


def scale_taken_as_true(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Takes a scale of 0 for none."""
    shape = (*q.shape[:-1], k.shape[-2])
    scale = scale or 1 / math.sqrt(q.shape[-1])
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for row in range(0, q.shape[-2], 64):
        rows = slice(row, row + 64)
        i = np.arange(q.shape[-2])[rows, None]
        top = np.full((*q[..., rows, :].shape[:-1], 1), -1e300)
        total, part = np.zeros_like(top), np.zeros_like(out[..., rows, :])
        for start in range(0, k.shape[-2], block):
            keys = slice(start, start + block)
            j = np.arange(k.shape[-2])[keys]
            seen = mask(0, 0, i, j) if callable(mask) else np.broadcast_to(mask, shape)[..., i, j]
            scores = scale * q[..., rows, :] @ k[..., keys, :].mT
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = np.where(seen, scores + np.broadcast_to(bias, shape)[..., i, j], -np.inf)
            new = np.maximum(top, scores.max(axis=-1, keepdims=True))
            terms, factor = np.exp(scores - new), np.exp(top - new)
            total = factor * total + terms.sum(axis=-1, keepdims=True)
            part = factor * part + terms @ v[..., keys, :]
            top = new
        out[..., rows, :] = part / np.where(total == 0, 1, total)
    return out


def hidden_by_a_large_number(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Hides by a score of -1e9, so that a query that may look nowhere sees all alike."""
    shape = (*q.shape[:-1], k.shape[-2])
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for start in range(0, q.shape[-2], 64):
        i = np.arange(q.shape[-2])[start : start + 64, None]
        j = np.arange(k.shape[-2])
        seen = mask(0, 0, i, j) if callable(mask) else np.broadcast_to(mask, shape)[..., i, j]
        hidden = np.where(seen, np.broadcast_to(bias, shape)[..., i, j], -1e9)
        rows = slice(start, start + 64)
        out[..., rows, :] = attention(
            q[..., rows, :], k, v, bias=hidden, scale=scale, softcap=softcap
        )
    return out


def mean_of_both(output_a, lse_a, output_b, lse_b):
    """Takes the mean of the outputs."""
    return (output_a + output_b) / 2, np.logaddexp(lse_a, lse_b)


def weighed_by_logarithms(output_a, lse_a, output_b, lse_b):
    """Takes the logarithms themselves for weights."""
    share = (lse_a / (lse_a + lse_b))[:, None]
    return share * output_a + (1 - share) * output_b, np.logaddexp(lse_a, lse_b)


def overflowing(output_a, lse_a, output_b, lse_b):
    """Takes exponentials of the logarithms as they are."""
    a, b = np.exp(lse_a), np.exp(lse_b)
    output = (a[:, None] * output_a + b[:, None] * output_b) / (a + b)[:, None]
    return output, np.log(a + b)


def one_maximum_for_all_queries(output_a, lse_a, output_b, lse_b):
    """Subtracts the largest logarithm of all queries."""
    top = max(lse_a.max(), lse_b.max())
    a, b = np.exp(lse_a - top), np.exp(lse_b - top)
    output = (a[:, None] * output_a + b[:, None] * output_b) / (a + b)[:, None]
    return output, top + np.log(a + b)


def maximum_not_added_back(output_a, lse_a, output_b, lse_b):
    """Forgets to add the maximum to the logarithm."""
    top = np.maximum(lse_a, lse_b)
    a, b = np.exp(lse_a - top), np.exp(lse_b - top)
    output = (a[:, None] * output_a + b[:, None] * output_b) / (a + b)[:, None]
    return output, np.log(a + b)


def relative_to_the_first(output_a, lse_a, output_b, lse_b):
    """Subtracts the first machine's logarithm, which may be -inf or far below."""
    b = np.exp(lse_b - lse_a)
    output = (output_a + b[:, None] * output_b) / (1 + b)[:, None]
    return output, lse_a + np.log1p(b)


def logarithms_added(output_a, lse_a, output_b, lse_b):
    """Adds the logarithms."""
    lse = np.logaddexp(lse_a, lse_b)
    output = np.exp(lse_a - lse)[:, None] * output_a + np.exp(lse_b - lse)[:, None] * output_b
    return output, lse_a + lse_b


def shares_along_the_columns(output_a, lse_a, output_b, lse_b):
    """Lets the shares meet the columns of the outputs."""
    lse = np.logaddexp(lse_a, lse_b)
    return np.exp(lse_a - lse) * output_a + np.exp(lse_b - lse) * output_b, lse


def the_surer_one(output_a, lse_a, output_b, lse_b):
    """Takes the output of the machine with the larger logarithm."""
    first = lse_a >= lse_b
    return np.where(first[:, None], output_a, output_b), np.maximum(lse_a, lse_b)


def smallest_subtracted(output_a, lse_a, output_b, lse_b):
    """Subtracts the smaller logarithm, not the larger."""
    low = np.minimum(lse_a, lse_b)
    a, b = np.exp(lse_a - low), np.exp(lse_b - low)
    output = (a[:, None] * output_a + b[:, None] * output_b) / (a + b)[:, None]
    return output, low + np.log(a + b)


def shares_not_divided(output_a, lse_a, output_b, lse_b):
    """Weighs by exponentials below the maximum, and does not divide by their sum."""
    top = np.maximum(lse_a, lse_b)
    a, b = np.exp(lse_a - top)[:, None], np.exp(lse_b - top)[:, None]
    return a * output_a + b * output_b, np.logaddexp(lse_a, lse_b)


def logarithm_of_the_mean(output_a, lse_a, output_b, lse_b):
    """Divides the sum under the logarithm by the number of machines."""
    lse = np.logaddexp(lse_a, lse_b)
    output = np.exp(lse_a - lse)[:, None] * output_a + np.exp(lse_b - lse)[:, None] * output_b
    return output, lse - np.log(2)


WRONG = {
    # Those that are skipped; half; on the diagonal; all but the diagonal; all; a block too many;
    # pairs of tokens; blocks of queries and of keys
    "tiles_read": [120, 128, 16, 240, 256, 153, 4096 * 4097 // 2, 16 + 16],
    # No correction; turned around; the block's own maximum; kept too early; the maximum not added;
    # never kept; no line of what the loop needs before it; the sum before the maximum; the block's
    # own maximum and no correction; a block before the loop
    "online_sum": [
        "FDKACEB",
        "FDKAJEB",
        "FDKGHEB",
        "FDKAEHB",
        "FDKAHEI",
        "FDKAHB",
        "DFKAHEB",
        "FDKHAEB",
        "FDKGCEB",
        "FKDAHEB",
    ],
    "tiled_attention": [
        everything_at_once,
        mean_of_the_blocks,
        output_not_corrected,
        nothing_corrected,
        no_maximum,
        hidden_minus_hidden,
        positions_within_the_block,
        whole_blocks_alone,
        mask_sliced_as_it_is,
        bias_sliced_as_it_is,
        bias_under_the_cap,
        scale_taken_as_true,
        hidden_by_a_large_number,
    ],
    "merge_two": [
        mean_of_both,
        weighed_by_logarithms,
        overflowing,
        one_maximum_for_all_queries,
        maximum_not_added_back,
        relative_to_the_first,
        logarithms_added,
        shares_along_the_columns,
        the_surer_one,
        smallest_subtracted,
        shares_not_divided,
        logarithm_of_the_mean,
    ],
}
