"""What would be called the same is told apart by its settings."""

from __future__ import annotations

import pytest

from fastglt.study.naming import distinguished


@pytest.mark.parametrize(
    ("names", "specs", "told"),
    [
        (["a", "b"], [{"x": 1}, {"x": 1}], ["a", "b"]),
        (["a", "a", "b"], [{"x": 1}, {"x": 2}, {"x": 3}], ["a [x 1]", "a [x 2]", "b"]),
        (["a", "a"], [{"s": {"lr_w": 1, "y": 0}}, {"s": {"y": 0}}],
         ["a [lr w 1]", "a [lr w none]"]),
        (["a", "a"], [{"x": "u", "y": True}, {"x": "v", "y": False}],
         ["a [x u, y true]", "a [x v, y false]"]),
        (["a", "a"], [{"x": 1}, {"x": 1}], ["a [1]", "a [2]"]),
        (["a", "a"], [dict.fromkeys("wxyz", 1), dict.fromkeys("wxyz", 2)], ["a [1]", "a [2]"]),
        (["a", "a", "a"], [{"p": 1, "q": 1}, {"p": 2, "q": 1}, {"p": 1, "q": 2}],
         ["a [p 1, q 1]", "a [p 2, q 1]", "a [p 1, q 2]"]),
    ],
)  # fmt: skip
def test_distinguished(names, specs, told):
    assert distinguished(names, specs) == told
