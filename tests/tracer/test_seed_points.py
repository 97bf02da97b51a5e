import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import ParamsError
from tracer.seed_points import parse_points, with_offsets

PASTED = """
vol: scroll1 clicked [1234.5, 678, 90] value 231
  [ -1.5e2 ,+20.25,.5 ]  # a note with 3 numbers 1, 2, 3
noise [1, 2] [1, 2, 3, 4] [a, b, c] (7, 8, 9)
two on a line [1, 2, 3] and [4,5,6]
"""


def test_parse_points__finds_the_triples_in_brackets_in_order():
    assert parse_points(PASTED) == [
        (1234.5, 678.0, 90.0),
        (-150.0, 20.25, 0.5),
        (1.0, 2.0, 3.0),
        (4.0, 5.0, 6.0),
    ]


@pytest.mark.parametrize("number", ["1.", "5.e1"])
def test_parse_points__accepts_numbers_that_end_with_a_point(number):
    assert parse_points(f"[{number}, 2, 3]") == [(float(number), 2.0, 3.0)]


@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), min_size=1))
def test_parse_points__reads_what_python_prints(points):
    text = "\n".join(f"clicked {list(point)} ok" for point in points)
    assert parse_points(text) == points


@pytest.mark.parametrize("text", ["", "clicked at 1 2 3", "[1, 2]", "[1; 2; 3]", "[nan, 1, 2]"])
def test_parse_points__without_a_point_is_an_error(text):
    with pytest.raises(ParamsError, match=r"clicks.txt: no point of the form \[x, y, z\]"):
        parse_points(text, where="clicks.txt")


def test_with_offsets__tries_three_places_along_x():
    assert with_offsets([(10.0, 2.0, 3.0), (5.0, 6.0, 7.0)], 4.0) == [
        *((6.0, 2.0, 3.0), (10.0, 2.0, 3.0), (14.0, 2.0, 3.0)),
        *((1.0, 6.0, 7.0), (5.0, 6.0, 7.0), (9.0, 6.0, 7.0)),
    ]
    assert with_offsets([(10.0, 2.0, 3.0)], 0.0) == [(10.0, 2.0, 3.0)]
