"""Every form of attention: a NumPy reference, and torch forms of the same names.

`attn_course.reference` holds the definitions (NumPy in, NumPy out),
`attn_course.fast` the same functions in torch, on any device.
Importing this package imports neither.
"""

__version__ = "0.1.0"
