"""Formulas as one line of text, made of their MathML, for readers who listen."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element


def said(math: str) -> str:
    """Return the formula `math`, an element of MathML in its markup, as one line.

    A fraction stands between brackets, an index after an underscore, an exponent after a caret,
    and the rows of a matrix are parted by semicolons.
    """
    root = ElementTree.fromstring(math)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without the name space
    return " ".join(_line(root).split())


def _group(element: Element) -> str:
    line = _line(element).strip()
    return line if len(line) == 1 or line.isalnum() else f"({line})"


def _line(element: Element) -> str:
    parts, text = list(element), "".join(element.itertext())
    match element.tag:
        case "annotation":
            return ""
        case "mi" | "mn" | "mtext":
            return text
        case "mo":
            # Not the signs that are not seen: function application and the like.
            return f" {text} ".replace("\u2061", "").replace("\u200b", "")
        case "mfrac":
            return f"{_group(parts[0])} / {_group(parts[1])}"
        case "msqrt":
            return f"√({' '.join(map(_line, parts))})"
        case "msub" | "munder":
            return f"{_line(parts[0]).strip()}_{_group(parts[1])}"
        case "msup" | "mover":
            return f"{_line(parts[0]).strip()}^{_group(parts[1])}"
        case "msubsup" | "munderover":
            return f"{_line(parts[0]).strip()}_{_group(parts[1])}^{_group(parts[2])}"
        case "mtable":
            between = " " if element.get("columnalign") == "right left" else ", "
            return "; ".join(between.join(map(_line, row)) for row in parts)
        case _:
            return " ".join(map(_line, parts))
