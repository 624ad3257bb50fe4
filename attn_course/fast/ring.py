"""Attention of one text whose tokens lie on several devices, by `torch.distributed`.

Each rank holds the queries, keys and values of some of the tokens. In a ring, keys and values go
around: at each step a rank attends to those that it holds, while they are on their way to the next
rank. Parts are joined by their lse, as in `merge_attention`, so no rank ever holds all keys, and
the memory of each falls with their number. The other form gathers all keys first.

Under a causal mask the last tokens see the most keys. A layout says which tokens a rank holds:

- ``"contiguous"``: one piece of the text; the last rank has the most to do, and all wait for it;
- ``"striped"``: every ranks-th token, beginning with that of the rank's number;
- ``"zigzag"``: of twice as many pieces as ranks one from the front and one from the back.

A script of its own, started by ``torchrun --nproc-per-node 4 SCRIPT``::

    with process_group() as ring:
        own = [shard(x, ring=ring) for x in (q, k, v)]  # of all tokens, those of this rank
        output = ring_attention(*own, causal=True, ring=ring)
        whole = unshard(output, ring=ring)

The backward pass sends too, so all ranks go through it, and through several of them in one order.

Sources: [Liu, Zaharia and Abbeel 2023](https://arxiv.org/abs/2310.01889) for the ring,
[Brandon et al. 2023](https://arxiv.org/abs/2311.09431) for stripes.
"""

import contextlib
import datetime
import math
import os
from array import array
from collections.abc import Iterator

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_course.arguments import (
    check_bool,
    check_grouped,
    check_kind,
    check_number,
    check_rank,
    check_size,
)
from attn_course.fast.softmax import widened
from attn_course.fast.tiled import Tiles, partial_attention

LAYOUTS = "contiguous", "striped", "zigzag"
LONGEST = 64  # characters of each fact that the ranks tell each other
FACTS = "call", "layout", "dtype", *(f"shape of {x}" for x in "qkvx"), "causal", "scale", "softcap"


def positions_of(length: int, rank: int, ranks: int, layout: str) -> Int[Tensor, "own"]:
    """Return which tokens of a text a rank holds, in order.

    Args:
        length: tokens of the text; ranks hold unequal numbers where it cannot be divided.
        rank: number of the rank, from 0.
        ranks: how many there are.
        layout: one of `LAYOUTS`.

    >>> positions_of(8, rank=0, ranks=2, layout="zigzag")
    tensor([0, 1, 6, 7])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative, there is no such rank, or no such layout.
    """
    length, ranks = check_size("length", length), check_size("ranks", ranks, minimum=1)
    rank = check_size("rank", rank)
    if rank >= ranks:
        raise ValueError(f"rank is {rank}, expected less than ranks, {ranks}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    places = torch.arange(length)
    if layout == "striped":
        return places[rank::ranks]
    if layout == "contiguous":
        return places.tensor_split(ranks)[rank]
    pieces = places.tensor_split(2 * ranks)
    return torch.cat((pieces[rank], pieces[2 * ranks - 1 - rank]))


@contextlib.contextmanager
def process_group(seconds: float = 60.0) -> Iterator["Ring"]:
    """Join the ranks that `torchrun` started; tensors on CUDA go over NCCL, others over gloo.

    With as many CUDA devices as ranks on this machine, a rank's own becomes the current one.

    Args:
        seconds: how long a rank waits for another before it gives up.

    Raises:
        TypeError: `seconds` is no number.
        ValueError: `seconds` is not positive.
        RuntimeError: `torchrun` did not start this process, or it has a process group already.
    """
    seconds = check_number("seconds", seconds, positive=True)
    if not {"RANK", "WORLD_SIZE"} <= {*os.environ}:
        raise RuntimeError("start the ranks by torchrun: torchrun --nproc-per-node 4 SCRIPT")
    if dist.is_initialized():
        raise RuntimeError("there is a process group already: Ring() takes it")
    backend, local = "gloo", int(os.environ.get("LOCAL_RANK", 0))
    if torch.cuda.device_count() > local:
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local)
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=seconds))
    try:
        yield Ring()
    finally:
        dist.destroy_process_group()


class Ring:
    """The ranks of a process group in a circle, and the bytes that this one sent.

    Args:
        group: a process group of `torch.distributed`; all ranks if None.

    `sent` is in bytes, of all calls that were given this ring.

    Raises:
        ValueError: this rank is not of the group.
        RuntimeError: no process group was started.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        if not dist.is_initialized():
            raise RuntimeError("no process group: use process_group(), or dist.init_process_group")
        self.group = group
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError(f"group does not hold this rank, {dist.get_rank()} of all")
        self.sent = 0

    def tell(self, numbers: list[int], device: torch.device) -> list[list[int]]:
        """Return the lists of numbers, equally long, that all ranks tell each other."""
        mine = torch.tensor(numbers, device=device)
        told = [torch.empty_like(mine) for _ in range(self.ranks)]
        with self._named(range(self.ranks)):
            dist.all_gather(told, mine, self.group)
        return [each.tolist() for each in told]

    def exchange(self, sent: dict[int, Tensor], received: dict[int, Tensor]) -> "Exchange":
        """Begin to send tensors to other ranks, and to fill tensors with what they send."""
        others = range(self.ranks)
        if self.group is not None:
            others = dist.get_process_group_ranks(self.group)
        self.sent += sum(x.nbytes for x in sent.values())
        operations = [
            dist.P2POp(operation, x, others[rank], self.group)
            for operation, tensors in ((dist.isend, sent), (dist.irecv, received))
            for rank, x in tensors.items()
            if x.numel()
        ]
        with self._named({*sent, *received}):
            requests = dist.batch_isend_irecv(operations) if operations else []
        return Exchange(self, requests, {*sent, *received})

    def shift(self, x: Tensor, length: int) -> tuple[Tensor, "Exchange"]:
        """Begin to send `x` to the next rank; return what comes from the one before, `length` rows.

        It is there when the exchange has been waited for.
        """
        into = x.new_empty((*x.shape[:-2], length, x.shape[-1]))
        if self.ranks == 1:
            return into.copy_(x), Exchange(self, [], {})
        after, before = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
        return into, self.exchange({after: x.contiguous()}, {before: into})

    def around(self, x: Tensor, lengths: list[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield each rank and what it holds, from this one backward, with the next on its way."""
        for step in range(self.ranks):
            source = (self.rank - step) % self.ranks
            last = step == self.ranks - 1
            if not last:
                coming, exchange = self.shift(x, lengths[source - 1])
            yield source, x
            if not last:
                exchange.wait()
                x = coming

    def gather(self, x: Tensor, lengths: list[int]) -> list[Tensor]:
        """Return what each rank holds of rows."""
        others = [rank for rank in range(self.ranks) if rank != self.rank]
        parts = [x.new_empty((*x.shape[:-2], length, x.shape[-1])) for length in lengths]
        parts[self.rank] = x.contiguous()
        self.exchange(dict.fromkeys(others, parts[self.rank]), {r: parts[r] for r in others}).wait()
        return parts

    def sum_of(self, parts: list[Tensor]) -> Tensor:
        """Send each rank its part; return the sum of those that all have for this one."""
        others = [rank for rank in range(self.ranks) if rank != self.rank]
        received = {rank: torch.empty_like(parts[self.rank]) for rank in others}
        self.exchange({rank: parts[rank].contiguous() for rank in others}, received).wait()
        return parts[self.rank] + sum(received.values())

    @contextlib.contextmanager
    def _named(self, ranks):
        """Say who was waited for, when one of `ranks` is lost."""
        try:
            yield
        except RuntimeError as error:
            others = ", ".join(str(rank) for rank in sorted(ranks) if rank != self.rank)
            if not others:
                raise
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise RuntimeError(
                f"rank {self.rank} of {self.ranks} waits in vain for one of the ranks {others}: "
                "it ended, by an error that it tells itself, or takes longer than the time "
                f"allowed ({said[0]})"
            ) from error


class Exchange:
    """What is on its way between ranks."""

    def __init__(self, ring: Ring, requests: list, ranks):
        self.ring, self.requests, self.ranks = ring, requests, ranks

    def wait(self) -> None:
        """Return when all has arrived, or raise RuntimeError when it cannot."""
        with self.ring._named(self.ranks):
            for request in self.requests:
                request.wait()


def ring_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*c j d"],
    v: Float[Tensor, "*c j e"],
    *,
    causal: bool = False,
    layout: str = "zigzag",
    scale: float | None = None,
    softcap: float | None = None,
    ring: Ring | None = None,
) -> Float[Tensor, "*b i e"]:
    """Return `grouped_query_attention` of this rank's tokens to those of all ranks, by a ring.

    Every rank calls it with its own tokens, those that `shard` returns for the same layout, and
    gets the output and the gradients of its own. There are first derivatives only.

    Args:
        q: queries (..., heads, own tokens, width).
        k: keys (..., key heads, own tokens, width), with as many heads or a divisor of them.
        v: values (..., key heads, own tokens, value width).
        causal: whether a token sees none after its own.
        layout: which tokens a rank holds, one of `LAYOUTS`; without a mask it is all the same.
        scale: what scores are multiplied by; 1 / √width if None.
        softcap: bounds the scores to ±softcap by tanh, before the mask.
        ring: the ranks, and the count of what this one sent; all ranks, uncounted, if None.

    Each rank sends, in bytes, ranks - 1 times what its keys and values take, and in the backward
    pass once more, with their gradients in float32 or wider, ranks times.

    Raises:
        TypeError: as `grouped_query_attention`, or `causal` is no bool.
        ValueError: as `grouped_query_attention`, a rank has not one query for each key, there is no
            such layout, the ranks' arrays or options do not fit together, or their tokens not the
            layout.
        RuntimeError: no process group was started, or another rank ended (it is known at once) or
            did not come in time.

    Source: [Liu, Zaharia and Abbeel 2023](https://arxiv.org/abs/2310.01889).
    """
    return _across(_Ring, q, k, v, causal, layout, scale, softcap, ring)


def gathered_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*c j d"],
    v: Float[Tensor, "*c j e"],
    *,
    causal: bool = False,
    layout: str = "zigzag",
    scale: float | None = None,
    softcap: float | None = None,
    ring: Ring | None = None,
) -> Float[Tensor, "*b i e"]:
    """Return `ring_attention`, with the keys and values of all ranks gathered first.

    Each rank sends as much, at once and not while it computes, and holds the keys and values of the
    whole text. Where key heads are few, that is little.

    Raises:
        TypeError: as `ring_attention`.
        ValueError: as `ring_attention`.
        RuntimeError: as `ring_attention`.

    Source: [Llama team 2024](https://arxiv.org/abs/2407.21783), section 3.3.2.
    """
    return _across(_Gathered, q, k, v, causal, layout, scale, softcap, ring)


def shard(
    x: Shaped[Tensor, "*b n w"], layout: str = "zigzag", ring: Ring | None = None
) -> Shaped[Tensor, "*b own w"]:
    """Return the rows of `x` that this rank holds.

    Args:
        x: rows (..., tokens, width) of the whole text.
        layout: which tokens a rank holds, one of `LAYOUTS`.
        ring: the ranks; all if None.

    Its gradient is 0 in the rows of other ranks.

    Raises:
        TypeError: `x` is no tensor, or `ring` no Ring.
        ValueError: `x` has fewer than two axes, or there is no such layout.
        RuntimeError: no process group was started.
    """
    _check_rows(x)
    ring = _ring(ring)
    places = positions_of(x.shape[-2], ring.rank, ring.ranks, layout)
    return x.index_select(-2, places.to(x.device))


def unshard(
    x: Shaped[Tensor, "*b own w"], layout: str = "zigzag", ring: Ring | None = None
) -> Shaped[Tensor, "*b n w"]:
    """Return the rows of all tokens in order, on every rank, from those that each holds.

    Args:
        x: rows (..., own tokens, width) of this rank.
        layout: the layout by which they were sharded.
        ring: the ranks; all if None.

    Every rank calls it. Gradients flow to this rank's own rows, so each needs a loss.

    Raises:
        TypeError: `x` is no tensor, or `ring` no Ring.
        ValueError: `x` has fewer than two axes, there is no such layout, or the ranks' rows do not
            fit together.
        RuntimeError: no process group was started, or another rank was lost.
    """
    _check_rows(x)
    ring = _ring(ring)
    lengths, places = _agree(ring, layout, {"x": x}, call="unshard")
    order = torch.cat(places).argsort().to(x.device)
    return torch.cat(ring.gather(x, lengths), dim=-2).index_select(-2, order)


def _check_rows(x):
    check_kind(Tensor, x=x)
    check_rank(2, "rows of some width", x=x)


def _ring(ring):
    if ring is not None and not isinstance(ring, Ring):
        raise TypeError(f"ring is {ring!r}, expected a Ring or None")
    return Ring() if ring is None else ring


def _agree(ring, layout, arrays, **facts):
    """Return how many tokens each rank holds, and which.

    All ranks tell each other what they were given, and all raise where it does not fit together.
    """
    x = next(iter(arrays.values()))
    facts |= {"layout": layout, "dtype": x.dtype}
    for name, rows in arrays.items():
        sizes = *rows.shape[:-2], "tokens", rows.shape[-1]
        facts[f"shape of {name}"] = f"({', '.join(map(str, sizes))})"
    texts = (str(facts.get(name)).encode()[:LONGEST].ljust(LONGEST) for name in FACTS)
    told = ring.tell([x.shape[-2], *array("q", b"".join(texts))], x.device)
    lengths, told = [own for own, *_ in told], [_facts(numbers) for _, *numbers in told]
    for rank, theirs in enumerate(told):
        for name, fact in theirs.items():
            if fact != told[0][name]:
                raise ValueError(
                    f"{name} is {fact} on rank {rank} and {told[0][name]} on rank 0, expected the "
                    "same on all ranks"
                )
    places = [positions_of(sum(lengths), rank, ring.ranks, layout) for rank in range(ring.ranks)]
    if lengths != [len(place) for place in places]:
        raise ValueError(
            f"the ranks hold {lengths} tokens; a {layout} layout of {sum(lengths)} gives them "
            f"{[len(place) for place in places]}"
        )
    return lengths, places


def _facts(numbers):
    """Return what a rank told of itself, by its name."""
    text = array("q", numbers).tobytes().decode()
    return {name: text[n * LONGEST :][:LONGEST].strip() for n, name in enumerate(FACTS)}


def _across(form, q, k, v, causal, layout, scale, softcap, ring):
    """Check what all forms check, and let `form` attend."""
    scale, softcap = check_grouped(Tensor, q, k, v, True, 0.0, scale, softcap)
    check_bool("causal", causal)
    own = k.shape[-2]
    if q.shape[-2] != own:
        raise ValueError(
            f"q has {q.shape[-2]} queries and k has {own} keys, expected equal numbers"
        )
    positions_of(0, 0, 1, layout)  # there is such a layout
    ring = _ring(ring)
    options = {"scale": 1 / math.sqrt(q.shape[-1]) if scale is None else scale, "softcap": softcap}
    call = form.__name__.strip("_").lower()
    _, places = _agree(ring, layout, {"q": q, "k": k, "v": v}, call=call, causal=causal, **options)
    places = [place.to(q.device) for place in places]
    # The heads that share keys become rows of one head, so that keys are read once for all.
    group = q.shape[-3] // k.shape[-3]
    grouped = q.unflatten(-3, (-1, group)).flatten(-3, -2)
    output = form.apply(grouped, k, v, ring, places, causal, options)
    return output.unflatten(-2, (group, own)).flatten(-4, -3)


def _mask(causal, own, others):
    """Return which keys at places `others` the queries at `own` see, of any head of a group."""
    if not causal:
        return True
    return lambda b, h, i, j: others[j] <= own[i % len(own)]


def _merge(output, lse, part, part_lse):
    """Add a part to `output`, where it is, as `merge_attention` does; return the lse of both."""
    whole = torch.logaddexp(lse, part_lse.to(lse.dtype))
    finite = whole.masked_fill(whole == -torch.inf, 0)
    output *= (lse - finite).exp()[..., None]
    output += (part_lse - finite).exp()[..., None] * part
    return whole


def _blocks(tiles, lse, average):
    """Return the statistics of `Tiles.gradients`, known for all queries."""
    lses, averages = lse.split(tiles.block, dim=-1), average.split(tiles.block, dim=-2)
    return lambda rows, _: (lses[rows], averages[rows])


class _Ring(torch.autograd.Function):
    """Attention by a ring. Gradients go around with the keys and values that they are of."""

    @staticmethod
    def forward(ctx, q, k, v, ring, places, causal, options):
        output = widened(q).new_zeros((*q.shape[:-1], v.shape[-1]))
        lse = output.new_full(q.shape[:-1], -torch.inf)
        kv, widths = torch.cat((k, v), dim=-1), [k.shape[-1], v.shape[-1]]
        for source, held in ring.around(kv, [len(place) for place in places]):
            key, value = held.split(widths, dim=-1)
            mask = _mask(causal, places[ring.rank], places[source])
            lse = _merge(output, lse, *partial_attention(q, key, value, mask, **options))
        output = output.to(q.dtype)
        ctx.save_for_backward(q, kv, output, lse)
        ctx.given = ring, places, causal, options, widths
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        q, kv, output, lse = ctx.saved_tensors
        ring, places, causal, options, widths = ctx.given
        average = (widened(grad_output) * output).sum(dim=-1, keepdim=True)
        grad_q, exchange = torch.zeros_like(widened(q)), None
        lengths = [len(place) for place in places]
        for source, held in ring.around(kv, lengths):
            key, value = held.split(widths, dim=-1)
            mask = _mask(causal, places[ring.rank], places[source])
            tiles = Tiles(q, key, value, mask, **options)
            part, *grads = tiles.gradients(grad_output, _blocks(tiles, lse, average))
            grad_q += part
            grad_kv = torch.cat(grads, dim=-1)
            del tiles, part, grads
            if exchange is not None:
                exchange.wait()
                grad_kv += coming
            # To the next rank, which holds the same keys at its next step; at last to their own.
            coming, exchange = ring.shift(grad_kv, lengths[source - 1])
        exchange.wait()
        grad_k, grad_v = coming.split(widths, dim=-1)
        return *(x.to(q.dtype) for x in (grad_q, grad_k, grad_v)), None, None, None, None


class _Gathered(torch.autograd.Function):
    """Attention to all keys and values, gathered. Each rank's gradients are sent back to it."""

    @staticmethod
    def forward(ctx, q, k, v, ring, places, causal, options):
        lengths = [len(place) for place in places]
        kv = torch.cat(ring.gather(torch.cat((k, v), dim=-1), lengths), dim=-2)
        key, value = kv.split([k.shape[-1], v.shape[-1]], dim=-1)
        mask = _mask(causal, places[ring.rank], torch.cat(places))
        output, lse = partial_attention(q, key, value, mask, **options)
        ctx.save_for_backward(q, key, value, output, lse)
        ctx.given = ring, lengths, mask, options
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        q, k, v, output, lse = ctx.saved_tensors
        ring, lengths, mask, options = ctx.given
        average = (widened(grad_output) * output).sum(dim=-1, keepdim=True)
        tiles = Tiles(q, k, v, mask, **options)
        grad_q, *grads = tiles.gradients(grad_output, _blocks(tiles, lse, average))
        grad_kv = ring.sum_of(list(torch.cat(grads, dim=-1).split(lengths, dim=-2)))
        grad_k, grad_v = grad_kv.split([k.shape[-1], v.shape[-1]], dim=-1)
        return *(x.to(q.dtype) for x in (grad_q, grad_k, grad_v)), None, None, None, None
