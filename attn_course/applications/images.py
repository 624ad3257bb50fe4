"""Images: which digit is drawn? A Vision Transformer, which reads an image as patches in a row.

The learning rate of the transformers and their lack of dropout were chosen for patches of 7 by 7
pixels on the last 500 of the training images, see `held_out`; for the convolution one setting was
tried there. The models of the results learn from all 4,000 images; the test images serve to measure
them at the end.
"""

import functools
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications.studies import Study
from attn_course.applications.training import Recipe
from attn_course.data import Digits, digits
from attn_course.data.digits import CLASSES, SIDE
from attn_course.fast import Encoder, EncoderLayer, pre_norm

PATCHES = (7, 4, 14)  # sides, in pixels, of the patches that are compared
SHIFT = 2  # pixels, the farthest that a training image is moved


def cut(images: Float[Tensor, "b side side"], patch: int) -> Float[Tensor, "b n pixels"]:
    """Return the patches of `images` as rows, in reading order, each ``patch * patch`` pixels.

    >>> cut(torch.arange(16.0).reshape(1, 4, 4), 2)[0, 1]
    tensor([2., 3., 6., 7.])
    """
    patches = images.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # (b, r, p, c, p)
    return patches.transpose(-3, -2).flatten(-4, -3).flatten(-2)


def join(patches: Float[Tensor, "b n pixels"], patch: int) -> Float[Tensor, "b side side"]:
    """Return the images whose patches are `patches`. Undoes `cut`."""
    across = SIDE // patch
    rows = patches.unflatten(-1, (patch, patch)).unflatten(-3, (across, across))
    return rows.transpose(-3, -2).flatten(-2).flatten(-3, -2)


class PatchModel(nn.Module):
    """A Vision Transformer (Dosovitskiy et al. 2021) for digits.

    Patches of `patch` by `patch` pixels become rows of `width`; a row that is learned, the class
    token, goes first, and the readout reads what the layers make of it. A position that is learned
    is added to each row, unless `positions` is False: then the patches are a set.
    """

    def __init__(
        self,
        patch: int,
        positions: bool = True,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
    ):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(patch * patch, width)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        rows = 1 + (SIDE // patch) ** 2
        self.positions = nn.Parameter(0.02 * torch.randn(rows, width)) if positions else None
        self.encoder = Encoder(
            [EncoderLayer(width, heads, 2 * width, residual=pre_norm) for _ in range(layers)],
            norm=nn.LayerNorm(width),
        )
        self.read = nn.Linear(width, CLASSES)

    def forward(self, images: Float[Tensor, "b 28 28"]) -> Float[Tensor, "b classes"]:
        """Return the score of each class for each image."""
        return self.read_rows(cut(images, self.patch))

    def read_rows(self, patches: Float[Tensor, "b n pixels"]) -> Float[Tensor, "b classes"]:
        """Return the score of each class for images that come as rows of patches."""
        return self.read(self.encoder(self.rows(patches))[:, 0])

    def rows(self, patches: Float[Tensor, "b n pixels"]) -> Float[Tensor, "b rows width"]:
        """Return what the first layer reads: the class token and the patches, with positions."""
        token = self.token.expand(len(patches), 1, -1)
        x = torch.cat([token, self.embed(patches)], dim=1)
        return x if self.positions is None else x + self.positions

    @torch.no_grad()
    def weights(self, images: Float[Tensor, "b 28 28"]) -> list[Float[Tensor, "b heads rows rows"]]:
        """Return the attention weights of each layer; row and column 0 are the class token."""
        x, found = self.rows(cut(images, self.patch)), []
        for layer in self.encoder.layers:
            found.append(layer.attention.weights(layer.attention_norm(x)))
            x = layer(x)
        return found


class ConvolutionModel(nn.Module):
    """Three convolutions of 3 by 3 pixels, the first two followed by pooling, and a readout."""

    def __init__(self, channels: tuple[int, int, int] = (16, 48, 70), dropout: float = 0.1):
        super().__init__()
        first, second, third = channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(third * (SIDE // 4) ** 2, CLASSES),
        )

    def forward(self, images: Float[Tensor, "b 28 28"]) -> Float[Tensor, "b classes"]:
        """Return the score of each class for each image."""
        return self.layers(images[:, None])


class Shuffled(nn.Module):
    """`model`, which is shown every image with its patches of 7 by 7 pixels in one other order."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        order = torch.from_numpy(np.random.default_rng(0).permutation((SIDE // 7) ** 2))
        self.register_buffer("order", order, persistent=False)

    def forward(self, images: Float[Tensor, "b 28 28"]) -> Float[Tensor, "b classes"]:
        """Return the score of each class for each image."""
        return self.model(join(cut(images, 7)[:, self.order], 7))


def rollout(
    weights: list[Float[Tensor, "*b heads rows rows"]],
) -> Float[Tensor, "*b rows rows"]:
    """Return how much of each input row each output row is made of, by attention rollout.

    Each layer mixes its rows by half the mean of its heads and half the identity, which stands for
    the residual path; the layers' mixtures are multiplied. Abnar and Zuidema (2020), section 3.

    >>> rollout([torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])])
    tensor([[0.5000, 0.5000],
            [0.0000, 1.0000]])
    """
    eye = torch.eye(weights[0].shape[-1], device=weights[0].device)
    mixtures = [(layer.mean(dim=-3) + eye) / 2 for layer in weights]
    return functools.reduce(lambda whole, mixture: mixture @ whole, mixtures)


def moved(
    images: Float[np.ndarray, "b 28 28"], down: np.ndarray, right: np.ndarray
) -> Float[np.ndarray, "b 28 28"]:
    """Return `images` moved by whole pixels, each by its own; what comes in is paper."""
    far = int(max(np.abs(down).max(), np.abs(right).max()))
    padded = np.pad(images, ((0, 0), (far, far), (far, far)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:], axis=(1, 2))
    return windows[np.arange(len(images)), far - down, far - right]


@functools.cache
def data() -> tuple[Digits, Digits]:
    """Return the digits for training and those for testing."""
    return digits()


def held_out() -> tuple[Digits, Digits]:
    """Return the first 3,500 training digits and the last 500, by which settings are chosen."""
    train, _ = data()
    return train[:-500], train[-500:]


def loss(
    model: nn.Module, rng: np.random.Generator, size: int = 64, part: Digits | None = None
) -> Tensor:
    """Return the cross-entropy on random training images (or those of `part`), moved a little."""
    part = data()[0] if part is None else part
    device = next(model.parameters()).device
    rows = rng.integers(len(part.labels), size=size)
    images = moved(part.images[rows], *rng.integers(-SHIFT, SHIFT + 1, size=(2, size)))
    labels = torch.from_numpy(part.labels[rows]).to(device)
    return F.cross_entropy(model(torch.from_numpy(images).to(device)), labels)


@torch.no_grad()
def evaluate(model: nn.Module, part: Digits | None = None) -> dict[str, float]:
    """Return the share of the test images (or those of `part`) that are read correctly."""
    part = data()[1] if part is None else part
    device = next(model.parameters()).device
    labels = torch.from_numpy(part.labels).to(device)
    right = model(torch.from_numpy(part.images).to(device)).argmax(dim=-1) == labels
    return {"accuracy": right.float().mean().item()}


def studies() -> list[Study]:
    """Return the studies, all of as many steps on the same images, with a rate for each kind."""
    patches, convolution = (
        Recipe(steps=4000, learning_rate=rate, weight_decay=0.05) for rate in (3e-3, 2e-3)
    )
    models = {f"vit-{patch}": (partial(PatchModel, patch), patches) for patch in PATCHES}
    models["vit-7-set"] = (partial(PatchModel, 7, positions=False), patches)
    models["conv"] = (ConvolutionModel, convolution)
    models["conv-shuffled"] = (lambda: Shuffled(ConvolutionModel()), convolution)
    return [
        Study(f"digits/{name}", build, evaluate, loss, recipe)
        for name, (build, recipe) in models.items()
    ]
