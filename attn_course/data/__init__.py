"""Real data, read from the files of installed packages: nothing is downloaded.

The packages, with their versions and licences, stand in `packages.txt`. Each loader says what its
data are, who made them and under which licence.
"""

from attn_course.data.dates import dates, fields, written
from attn_course.data.digits import Digits, digits
from attn_course.data.marian import Marian, marian
from attn_course.data.minilm import MiniLM, minilm
from attn_course.data.operations import Operation, operations
from attn_course.data.paraphrases import Triplet, paraphrases
from attn_course.data.speech import Clip, speech
from attn_course.data.vowels import Vowels, vowels

__all__ = [
    "Clip",
    "Digits",
    "Marian",
    "MiniLM",
    "Operation",
    "Triplet",
    "Vowels",
    "dates",
    "digits",
    "fields",
    "marian",
    "minilm",
    "operations",
    "paraphrases",
    "speech",
    "vowels",
    "written",
]
