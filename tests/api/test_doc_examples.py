"""Examples in docstrings of the Python API are true."""

import doctest

from budsim.api import questions


def test_examples_in_docstrings_run():
    """Each `>>>` of `budsim.api.questions` prints what stands below it."""
    ended = doctest.testmod(questions)
    assert ended.attempted
    assert not ended.failed
