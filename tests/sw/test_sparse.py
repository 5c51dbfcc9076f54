"""The code of SPARSE data: every list of small words has one, every string of bytes is one, and it is the shortest."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenzo import sparse
from tenzo_hw.protocol import SPARSE_LARGEST, SPARSE_LONGEST

runs = st.one_of(
    st.integers(0, 3 * SPARSE_LONGEST).map(lambda length: [0] * length),
    st.integers(1, SPARSE_LARGEST).map(lambda x: [x]),
)


@given(st.lists(runs).map(lambda parts: list(chain.from_iterable(parts))))
def test_words_come_back(words):
    code = sparse.encode(np.array(words, dtype=np.int64))
    assert sparse.decode(code).tolist() == words
    assert sparse.lengths(code).sum() == len(words)


@given(st.binary())
def test_every_string_is_a_code_and_none_is_shorter(data):
    code = np.frombuffer(data, dtype=np.uint8)
    words = sparse.decode(code)
    assert words.size == sparse.lengths(code).sum()
    assert sparse.encode(words).size <= code.size


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], []),
        ([0], [0]),
        ([0, 0], [129]),
        ([128, 0, 1, 0, 0, 0], [128, 0, 1, 130]),
        ([0] * 128, [255]),
        ([0] * 129 + [7], [255, 0, 7]),
        ([0] * 258, [255, 255, 129]),
    ],
)
def test_codes(words, code):
    assert sparse.encode(np.array(words, dtype=np.int32)).tolist() == code
