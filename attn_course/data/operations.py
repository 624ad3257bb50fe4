"""Operations of web services: what does each do, in one sentence?

botocore describes the operations of 439 services of Amazon Web Services, with a documentation
written for people. Its first sentence says what the operation does; the rest explains. The first
sentence is the summary, the rest the text to summarize, without its HTML:

    summary   Disables a tape gateway when the gateway is no longer functioning.
    text      For example, if your gateway VM is damaged, you can disable the gateway so you can
              recover virtual tapes. [...]

Of each service only the newest version of the interface is read. Kept are summaries of 4 to 24
words over texts of at least 12; of those with equal summaries or equal texts, the first.

The test set is the operations of a tenth of the services, drawn at random once. Services describe
alike what they have in common, so an operation of the test set is dropped when at least half of
the runs of five words in its text stand in the texts for training too.

The text is that of the package botocore, Copyright Amazon.com, Inc. or its affiliates, Apache-2.0,
https://github.com/boto/botocore.
"""

import gzip
import html
import json
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from attn_course.data.packages import damaged, package_file, pinned

SHORTEST, LONGEST, SHORTEST_TEXT = 4, 24, 12  # words
RUN = 5  # words
CHECKSUM = 0xFAF6913A  # of the texts: another version of botocore says other things


class Operation(NamedTuple):
    """An operation of a service, the first sentence of its documentation and the rest of it."""

    service: str
    name: str
    summary: str
    text: str


def operations() -> tuple[list[Operation], list[Operation]]:
    """Return the operations for training and those for testing, of other services.

    Raises:
        ModuleNotFoundError: botocore is not installed; the message is the command that installs it.
        FileNotFoundError: botocore has not the files.
        ValueError: a file is damaged, or botocore is of another version.
    """
    newest = {}
    root = package_file("botocore", "data")
    for path in sorted(root.glob("*/*/service-2.json.gz")):
        newest[path.parts[-3]] = path  # the folders of the versions are named by their dates
    if not newest:
        raise FileNotFoundError(f"{root} has no */*/service-2.json.gz")
    kept, seen = [], set()
    for service, path in newest.items():
        for name, documentation in _documentation(path):
            summary, text = first_sentence(plain(documentation))
            in_summary, in_text = words(summary), words(text)
            if not SHORTEST <= len(in_summary) <= LONGEST or len(in_text) < SHORTEST_TEXT:
                continue
            keys = {" ".join(in_summary), " ".join(in_text)}
            if summary.endswith(".") and seen.isdisjoint(keys):
                kept.append(Operation(service, name, summary, text))
                seen |= keys
    found = _split(kept)
    if _checksum(*found) != CHECKSUM:
        raise damaged(root, f"the operations of {pinned()['botocore']}")
    return found


def plain(documentation: str) -> list[str]:
    """Return the paragraphs of `documentation`, without HTML.

    >>> plain("<p>Deletes a <code>Key</code>.</p> <note><p>Now &amp; here.</p></note>")
    ['Deletes a Key.', 'Now & here.']
    """
    lines = html.unescape(INLINE.sub("", BLOCK.sub("\n", documentation))).split("\n")
    return [" ".join(line.split()) for line in lines if line.strip()]


def first_sentence(paragraphs: list[str]) -> tuple[str, str]:
    """Return the first sentence and all the rest.

    >>> first_sentence(["Stops a job. It ends. A job cannot be resumed.", "Start a new one."])
    ('Stops a job.', 'It ends. A job cannot be resumed. Start a new one.')
    """
    if not paragraphs:
        return "", ""
    first, *rest = SENTENCE_END.split(paragraphs[0], maxsplit=1)
    return first, " ".join([*rest, *paragraphs[1:]])


def words(text: str) -> list[str]:
    """Return the words of `text`, lower-case.

    >>> words("Don't call S3_Get.")
    ['don', 't', 'call', 's3', 'get']
    """
    return WORD.findall(text.lower())


BLOCK = re.compile(
    r"</?(?:p|li|ul|ol|dl|dt|dd|note|important|caution|br|h\d|div|pre|table|tr|td|th|title|section)"
    r"\b[^>]*>",
    re.IGNORECASE,
)
INLINE = re.compile(r"<[^>]*>")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
WORD = re.compile(r"[^\W_]+")
OPERATIONS = re.compile(r'"operations"\s*:\s*')


def _documentation(path: Path) -> list[tuple[str, str]]:
    """Return the names of the operations in the file at `path`, each with its documentation."""
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        # Nine tenths of a file describe what is sent and received: they are not parsed.
        start = OPERATIONS.search(text).end()
        found, _ = json.JSONDecoder().raw_decode(text, start)
        documented = [(name, entry.get("documentation", "")) for name, entry in found.items()]
        if not all(isinstance(text, str) for _, text in documented):
            raise ValueError("a documentation is no text")
        return documented
    except (OSError, EOFError, zlib.error, ValueError, AttributeError) as error:
        raise damaged(path, "a description of operations, JSON inside gzip") from error


def _checksum(train: list[Operation], test: list[Operation]) -> int:
    return zlib.crc32("\n".join("\n".join(operation) for operation in train + test).encode())


def _split(kept: list[Operation]) -> tuple[list[Operation], list[Operation]]:
    services = sorted({operation.service for operation in kept})
    held = np.random.default_rng(0).permutation(len(services))[: len(services) // 10]
    held = {services[i] for i in held}
    train = [operation for operation in kept if operation.service not in held]
    known = {run for operation in train for run in runs(operation.text)}

    def is_new(text):
        found = runs(text)
        return 2 * len(found & known) < len(found)

    test = [operation for operation in kept if operation.service in held and is_new(operation.text)]
    return train, test


def runs(text: str) -> set[tuple[str, ...]]:
    """Return every run of five words that follow each other in `text`.

    >>> sorted(runs("One two three four five six."))
    [('one', 'two', 'three', 'four', 'five'), ('two', 'three', 'four', 'five', 'six')]
    """
    found = words(text)
    return set(zip(*(found[i:] for i in range(RUN)), strict=False))
