"""What the notebooks call besides mathematics: record, results and source."""

import inspect

import numpy as np
import pytest
import torch

from attn_course.notebook import record, results, source, table
from attn_course.reference import attention, softmax


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (1 / 3, 6, "0.333333"),
        (0.00012203901367, 6, "0.000122039"),
        (3, 6, "3"),
        (12.0, 6, "12"),
        (-0.0, 6, "0"),
        (1234567.0, 3, "1230000"),
        (np.float32(0.5), 6, "0.5"),
        (torch.tensor(2.5), 6, "2.5"),
        (torch.tensor([0.5, 2.0], dtype=torch.bfloat16, requires_grad=True), 6, "0.5, 2"),
        ([1, 2.25], 6, "1, 2.25"),
        (np.array([[6.96631096, 7.0]]), 4, "6.966, 7"),
    ],
)
def test_record_prints_digits(capsys, value, digits, expected):
    record(digits=digits, x=value)
    assert capsys.readouterr().out == f"x = {expected}\n"


@pytest.mark.parametrize("value", [np.nan, np.inf, []])
def test_record_refuses_what_is_no_finding(value):
    with pytest.raises(ValueError, match="x is"):
        record(x=value)


@pytest.mark.parametrize("value", ["a", None, True, 1j])
def test_record_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match="x is"):
        record(x=value)


def test_source_is_the_code_that_runs():
    code = repr(source(attention))
    assert code.startswith("def attention(")
    assert '"""' not in code
    namespace = dict(inspect.unwrap(attention).__globals__)
    exec(code, namespace)
    q = np.eye(3)
    np.testing.assert_array_equal(namespace["attention"](q, q, q), attention(q, q, q))
    assert source(softmax)._repr_markdown_().startswith("```python\ndef softmax(")


def test_source_refuses_what_has_none():
    for function in (len, lambda x: x, 3):
        with pytest.raises(TypeError, match="function is"):
            source(function)


def test_results_are_those_of_the_benchmark():
    cases = results("cpu")["cases"]
    assert {"question", "tokens", "form"} <= set(cases[0])


def test_results_that_do_not_exist_are_named():
    with pytest.raises(FileNotFoundError, match=r"name is 'gpu', and there is no gpu\.json.*cpu"):
        results("gpu")


def test_a_table_has_a_column_for_each_key():
    shown = table([{"topic": "`masks`", "named": 9}, {"topic": "<b>", "named": 12}])
    assert repr(shown).splitlines()[2:] == ["| `masks` | 9 |", "| <b> | 12 |"]
    page = shown._repr_html_()
    assert '<th scope="col">topic</th><th scope="col">named</th>' in page
    assert '<th scope="row"><code>masks</code></th><td>9</td>' in page
    assert '<th scope="row">&lt;b&gt;</th>' in page


@pytest.mark.parametrize("rows", [[], [{"a": 1}, {"b": 1}]])
def test_a_table_of_unlike_rows_is_refused(rows):
    with pytest.raises(ValueError, match="rows must be one or more"):
        table(rows)
