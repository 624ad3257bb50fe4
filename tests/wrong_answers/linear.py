"""Wrong answers to the exercises on kernels instead of scores, as students write them."""

import numpy as np

from attn_course.reference import attention, elu_features


def all_weights(q, k, v, *, feature_map=elu_features):
    """Forms the weights of all queries and keys."""
    weights = feature_map(q) @ feature_map(k).mT
    total = weights.sum(axis=-1, keepdims=True)
    return weights @ v / np.where(total == 0, 1, total)


def softmax_of_features(q, k, v, *, feature_map=elu_features):
    """Takes the features for queries and keys of softmax attention."""
    return attention(feature_map(q), feature_map(k), v)


def zero_over_zero(q, k, v, *, feature_map=elu_features):
    """Divides 0 by 0 where there is no key."""
    q, k = feature_map(q), feature_map(k)
    return q @ (k.mT @ v) / (q @ k.sum(axis=-2)[..., None])


def a_small_number_below(q, k, v, *, feature_map=elu_features):
    """Adds a small number to every denominator."""
    q, k = feature_map(q), feature_map(k)
    return q @ (k.mT @ v) / (q @ k.sum(axis=-2)[..., None] + 1e-3)


def features_normalized_first(q, k, v, *, feature_map=elu_features):
    """Makes each feature sum to 1 over the keys, and the features of each query as well."""
    q, k = feature_map(q), feature_map(k)
    q = q / np.maximum(q.sum(axis=-1, keepdims=True), 1e-300)
    k = k / np.maximum(k.sum(axis=-2, keepdims=True), 1e-300)
    return q @ (k.mT @ v)


def mean_for_the_sum(q, k, v, *, feature_map=elu_features):
    """Divides by the mean of the keys' features."""
    q, k = feature_map(q), feature_map(k)
    total = q @ k.mean(axis=-2)[..., None]
    return q @ (k.mT @ v) / np.where(total == 0, 1, total)


def summed_over_the_features(q, k, v, *, feature_map=elu_features):
    """Sums the features of each key, not each feature over the keys."""
    q, k = feature_map(q), feature_map(k)
    total = q.sum(axis=-1, keepdims=True) * k.sum(axis=(-2, -1))[..., None, None]
    return q @ (k.mT @ v) / np.where(total == 0, 1, total)


def two_axes_alone(q, k, v, *, feature_map=elu_features):
    """Transposes all axes, which is right without a batch alone."""
    q, k = feature_map(q), feature_map(k)
    total = q @ k.sum(axis=-2)[..., None]
    return q @ (k.T @ v) / np.where(total == 0, 1, total)


def summed_over_the_batch(q, k, v, *, feature_map=elu_features):
    """Sums over the first axis, which holds the keys without a batch alone."""
    q, k = feature_map(q), feature_map(k)
    total = q @ k.sum(axis=0)[..., None]
    return q @ (k.mT @ v) / np.where(total == 0, 1, total)


def denominator_below_one_lifted(q, k, v, *, feature_map=elu_features):
    """Divides by at least 1, to be safe."""
    q, k = feature_map(q), feature_map(k)
    return q @ (k.mT @ v) / np.maximum(q @ k.sum(axis=-2)[..., None], 1)


def its_own_feature_map(q, k, v, *, feature_map=elu_features):
    """Uses elu + 1 whatever feature map was given."""
    q, k = elu_features(q), elu_features(k)
    total = q @ k.sum(axis=-2)[..., None]
    return q @ (k.mT @ v) / np.where(total == 0, 1, total)


def total_after_the_use(q, k, v):
    """Adds a token's key to the sum after its output was made."""
    q, k = elu_features(q), elu_features(k)
    state = np.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]))
    total = np.zeros_like(k[..., 0, :])
    out = np.zeros_like(v)
    for t in range(q.shape[-2]):
        state = state + k[..., t, :, None] * v[..., t, None, :]
        above = (q[..., t, None, :] @ state)[..., 0, :]
        out[..., t, :] = above / (q[..., t, :] * total).sum(axis=-1, keepdims=True)
        total = total + k[..., t, :]
    return out


def number_of_tokens_below(q, k, v):
    """Divides by the number of tokens so far."""
    q, k = elu_features(q), elu_features(k)
    count = np.arange(1, q.shape[-2] + 1)[:, None]
    return np.tril(q @ k.mT) @ v / count


def each_by_its_own_key(q, k, v):
    """Divides by the product of the query with its own key alone."""
    q, k = elu_features(q), elu_features(k)
    weights = np.tril(q @ k.mT)
    return weights @ v / np.diagonal(weights, axis1=-2, axis2=-1)[..., None]


def features_left_out(q, k, v):
    """Weighs by products of queries and keys themselves."""
    weights = np.tril(q @ k.mT)
    return weights @ v / weights.sum(axis=-1, keepdims=True)


def masked_before_the_features(q, k, v):
    """Applies elu + 1 to scores, not to queries and keys."""
    weights = np.tril(elu_features(q @ k.mT))
    return weights @ v / weights.sum(axis=-1, keepdims=True)


def masked_and_normalized_over_all(q, k, v):
    """Divides by the sum of all weights before the later ones are hidden."""
    weights = elu_features(q) @ elu_features(k).mT
    return np.tril(weights / weights.sum(axis=-1, keepdims=True)) @ v


def summed_along_the_wrong_axis(q, k, v):
    """Makes the weights of each key sum to 1."""
    weights = np.tril(elu_features(q) @ elu_features(k).mT)
    return weights / weights.sum(axis=-2, keepdims=True) @ v


def fades_with_no_total(q, k, v, decay):
    """Lets the state fade and the denominator not."""
    q, k = elu_features(q), elu_features(k)
    n = q.shape[-2]
    weights = np.tril(q @ k.mT)
    powers = decay ** np.abs(np.arange(n)[:, None] - np.arange(n))
    return (weights * powers) @ v / weights.sum(axis=-1, keepdims=True)


def faded_once_too_often(q, k, v, decay):
    """Lets the new token fade as well, in the state alone."""
    q, k = elu_features(q), elu_features(k)
    state = np.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]))
    total = np.zeros((*q.shape[:-2], q.shape[-1]))
    out = np.zeros_like(v)
    for t in range(q.shape[-2]):
        state = decay * (state + k[..., t, :, None] * v[..., t, None, :])
        total = decay * total + k[..., t, :]
        above = (q[..., t, None, :] @ state)[..., 0, :]
        out[..., t, :] = above / (q[..., t, :] * total).sum(axis=-1, keepdims=True)
    return out


def moving_average(q, k, v, decay):
    """Gives the new token the share 1 - decay, in the state alone."""
    q, k = elu_features(q), elu_features(k)
    state = np.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]))
    total = np.zeros((*q.shape[:-2], q.shape[-1]))
    out = np.zeros_like(v)
    for t in range(q.shape[-2]):
        state = decay * state + (1 - decay) * k[..., t, :, None] * v[..., t, None, :]
        total = decay * total + k[..., t, :]
        above = (q[..., t, None, :] @ state)[..., 0, :]
        out[..., t, :] = above / (q[..., t, :] * total).sum(axis=-1, keepdims=True)
    return out


def rate_for_factor(q, k, v, decay):
    """Takes the decay for a rate of an exponential."""
    n = q.shape[-2]
    distance = np.arange(n)[:, None] - np.arange(n)
    weights = np.tril(elu_features(q) @ elu_features(k).mT * np.exp(-decay * distance))
    return weights @ v / weights.sum(axis=-1, keepdims=True)


def later_tokens_too(q, k, v, decay):
    """Lets tokens see later ones, faded by distance."""
    n = q.shape[-2]
    powers = decay ** np.abs(np.arange(n)[:, None] - np.arange(n))
    weights = elu_features(q) @ elu_features(k).mT * powers
    return weights @ v / weights.sum(axis=-1, keepdims=True)


def keys_fade_before_the_features(q, k, v, decay):
    """Lets the keys fade inside the feature map."""
    n = q.shape[-2]
    distance = np.maximum(np.arange(n)[:, None] - np.arange(n), 0)
    faded = elu_features(k[..., None, :, :] * (decay**distance)[..., None])
    weights = np.tril((elu_features(q)[..., :, None, :] * faded).sum(axis=-1))
    return weights @ v / weights.sum(axis=-1, keepdims=True)


def by_age_in_the_text(q, k, v, decay):
    """Counts the age of a token from the end of the text, in the values alone."""
    n = q.shape[-2]
    weights = np.tril(elu_features(q) @ elu_features(k).mT)
    aged = v * (decay ** np.arange(n - 1, -1, -1))[:, None]
    return weights @ aged / weights.sum(axis=-1, keepdims=True)


def oldest_counts_most(q, k, v, decay):
    """Raises the decay to the position, so that newer tokens count less."""
    n = q.shape[-2]
    powers = decay ** np.arange(n)
    weights = np.tril(elu_features(q) @ elu_features(k).mT * powers)
    total = weights.sum(axis=-1, keepdims=True)
    return weights @ v / np.where(total == 0, 1, total)


def divided_by_powers(q, k, v, decay):
    """Splits the power in two, which overflows in long texts and divides by 0."""
    n = q.shape[-2]
    ahead = (decay ** np.arange(n, dtype=float))[:, None]
    q, k = elu_features(q) * ahead, elu_features(k) / ahead
    weights = np.tril(q @ k.mT)
    return weights @ v / weights.sum(axis=-1, keepdims=True)


WRONG = {
    # As many, rounded; not rounded; no sum of features; keys for features; features squared; no
    # values in the cache
    "state_or_cache": [
        173,
        173.33,
        512 * 64 // 192 + 1,
        128 * 64 // 192 + 1,
        (512 * 512 + 512) // 192 + 1,
        (512 * 64 + 512) // 128 + 1,
    ],
    "linear_attention": [
        all_weights,
        softmax_of_features,
        zero_over_zero,
        a_small_number_below,
        features_normalized_first,
        mean_for_the_sum,
        summed_over_the_features,
        two_axes_alone,
        summed_over_the_batch,
        denominator_below_one_lifted,
        its_own_feature_map,
    ],
    "causal_linear_attention": [
        total_after_the_use,
        number_of_tokens_below,
        each_by_its_own_key,
        features_left_out,
        masked_before_the_features,
        masked_and_normalized_over_all,
        summed_along_the_wrong_axis,
    ],
    # No correction; read before stored; error by the query; without strength; read by the key;
    # an empty loop; stored before there is an error; the loop before the state; nothing returned
    "delta_rule": [
        "BGEADK",
        "BGEDIFK",
        "BGECFDK",
        "BGEIHDK",
        "BGEIFJK",
        "BEGIFDK",
        "BGEFIDK",
        "GEBIFDK",
        "BGEIFD",
    ],
    "fading_linear_attention": [
        fades_with_no_total,
        faded_once_too_often,
        moving_average,
        rate_for_factor,
        later_tokens_too,
        keys_fade_before_the_features,
        by_age_in_the_text,
        oldest_counts_most,
        divided_by_powers,
    ],
}
