"""Does the weight of a frame explain the answer? Weights and frames are changed, answers compared.

The models are those of `attn_course.applications.sound` that pool by attention. Use them, and
frames, in float64: what one frame changes can be less than float32 resolves.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import kendalltau
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from attn_course.applications.sound import SpeakerModel, normalized
from attn_course.fast import softmax
from attn_course.fast.softmax import masked


def pooled_answers(
    model: SpeakerModel, rows: Float[Tensor, "*b n width"], weights: Float[Tensor, "*b n"]
) -> Float[Tensor, "*b speakers"]:
    """Return the probability of each speaker when `rows` are pooled by `weights`."""
    return softmax(model.read((weights[..., None, :] @ rows)[..., 0, :]))


def total_variation(p: Float[Tensor, "*b n"], q: Float[Tensor, "*#b n"]) -> Float[Tensor, "*b"]:
    """Return how much probability has to move to turn `p` into `q`: half of ``sum |p - q|``.

    >>> total_variation(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25]))
    tensor(0.2500)
    """
    return (p - q).abs().sum(dim=-1) / 2


def jensen_shannon(p: Float[Tensor, "*b n"], q: Float[Tensor, "*#b n"]) -> Float[Tensor, "*b"]:
    """Return the Jensen-Shannon divergence in nats: 0 if equal, ln 2 = 0.693 if nothing is shared.

    >>> jensen_shannon(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    middle = (p + q) / 2
    return sum(_divergence(each, middle) for each in (p, q)) / 2


def _divergence(p, q):
    """Return the Kullback-Leibler divergence of `p` from `q`; 0 log 0 is 0, its gradient too."""
    there = p > 0
    logs = torch.where(there, p, 1).log() - torch.where(there, q, 1).log()
    return (p * logs).sum(dim=-1)


def shuffled(
    weights: Float[Tensor, "b n"], lengths: Int[Tensor, " b"], rng: np.random.Generator
) -> Float[Tensor, "b n"]:
    """Return `weights` dealt anew among the frames of each utterance."""
    dealt = torch.zeros_like(weights)
    for i, n in enumerate(lengths.tolist()):
        dealt[i, :n] = weights[i, torch.from_numpy(rng.permutation(n)).to(weights.device)]
    return dealt


def other_weights(
    model: SpeakerModel,
    rows: Float[Tensor, "b n width"],
    weights: Float[Tensor, "b n"],
    mask: Bool[Tensor, "b n"],
    *,
    tolerance: float = 0.01,
    steps: int = 300,
    seed: int = 0,
) -> Float[Tensor, "b n"]:
    """Search each utterance for weights far from `weights` that give almost the same answer.

    Adam moves scores, drawn at random at first, to raise the Jensen-Shannon divergence. A penalty
    holds the total variation between the answers to `tolerance`. Returned are the farthest weights
    that were met within it, and `weights` themselves where none were.

    Jain and Wallace (2019), section 4.2.2.

    Raises:
        ValueError: `tolerance` is not between 0 and 1, or `steps` less than 1.
    """
    if not 0 < tolerance < 1 or steps < 1:
        raise ValueError(f"tolerance is {tolerance}, steps {steps}, expected 0 to 1, 1 or more")
    rows, weights = rows.detach(), weights.detach()
    answers = pooled_answers(model, rows, weights).detach()
    start = np.random.default_rng(seed).standard_normal(weights.shape)
    scores = torch.from_numpy(start).to(weights).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.3)
    best, farthest = weights.clone(), torch.zeros_like(weights[:, 0])
    for _ in range(steps):
        tried = softmax(masked(scores, mask))
        moved = total_variation(pooled_answers(model, rows, tried), answers)
        apart = jensen_shannon(tried, weights)
        with torch.no_grad():
            better = (moved <= tolerance) & (apart > farthest)
            farthest = torch.where(better, apart, farthest)
            best = torch.where(better[:, None], tried, best)
        loss = (100 * (moved - tolerance).clamp(min=0) - apart).sum()
        (scores.grad,) = torch.autograd.grad(loss, scores)
        optimizer.step()
    return best


def rollout(model: SpeakerModel, frames: Float[Tensor, "n channels"]) -> Float[Tensor, "n n"]:
    """Return the share of each frame in each row that is pooled, as attention alone would mix them.

    In each layer a row is taken to be half itself and half the mean over the heads of what they
    attend to; the matrices of the layers are multiplied. What values and feed-forward networks do
    is left out. Abnar and Zuidema (2020), section 3.
    """
    same = torch.eye(len(frames), dtype=frames.dtype, device=frames.device)
    x, shares = model.embed(frames), same
    for layer in model.encoder.layers:
        mixed = layer.attention.weights(layer.attention_norm(x)).mean(dim=-3)
        x, shares = layer(x), (mixed + same) / 2 @ shares
    return shares


def importance(
    model: SpeakerModel, frames: Float[Tensor, "n channels"]
) -> dict[str, Float[Tensor, " n"]]:
    """Return measures of how much each frame of one utterance matters to the answer.

    `weight`: that of attention pooling on the row at the frame's place. `row`: how far the answer
    moves, in total variation, if that row is taken from the pooling. `frame`: the same, if the
    frame is hidden from the encoder layers too. `gradient`: the length of the derivative of the
    answer's probability with respect to the frame. `rollout`: the weights, carried back to the
    frames by `rollout`.

    Raises:
        ValueError: there are fewer than two frames.
    """
    n = len(frames)
    if n < 2:
        raise ValueError(f"frames has {n} rows, expected at least 2")
    length = torch.tensor([n], device=frames.device)
    seen = frames.detach().clone().requires_grad_()
    answer = softmax(model(seen[None], length)[0])
    (slopes,) = torch.autograd.grad(answer.max(), seen)
    with torch.no_grad():
        rows, weights = model.encode(frames[None], length)[0], model.weights(frames[None], length)
        kept = ~torch.eye(n, dtype=torch.bool, device=frames.device)
        without_row = model.read(model.pool(rows.expand(n, -1, -1), kept))
        hidden = model.encoder(model.embed(frames).expand(n, -1, -1), kept[:, None, None])
        without_frame = model.read(model.pool(hidden, kept))
        return {
            "weight": weights[0],
            "row": total_variation(softmax(without_row), answer),
            "frame": total_variation(softmax(without_frame), answer),
            "gradient": slopes.norm(dim=-1),
            "rollout": weights[0] @ rollout(model, frames),
        }


def agreement(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Return Kendall's rank correlation: 1 if `a` and `b` have one order, -1 if opposite ones.

    >>> agreement(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 3.0, 9.0, 9.5]))
    1.0

    Raises:
        ValueError: all of `a` or all of `b` are equal, so that they have no order.
    """
    found = kendalltau(a.cpu().numpy(), b.cpu().numpy()).statistic
    if np.isnan(found):
        raise ValueError("a or b is constant, expected numbers that can be ranked")
    return float(found)


def guided_loss(for_training: Float[Tensor, "b n"], for_testing: Float[Tensor, "c n"]) -> float:
    """Return the test cross-entropy of logistic regression on frames averaged by given weights.

    The weights say which frames count; the model that they guide has scikit-learn's default
    settings and sees each frame alone. *Attention is not not explanation* (2019), section 3.4,
    with its network reduced to one layer.
    """
    train, test = normalized()
    given = (train, for_training), (test, for_testing)
    x, y = (
        np.einsum("bj, bjc -> bc", weights.cpu().numpy(), part.frames.astype(float))
        for part, weights in given
    )
    simple = LogisticRegression(max_iter=1000, tol=1e-8).fit(x, train.speakers)
    return float(log_loss(test.speakers, simple.predict_proba(y)))
