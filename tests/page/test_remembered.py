"""The answers a process remembers."""

from budsim.page.remembered import RememberedAnswers


def test_answers_have_names_nobody_guesses():
    """Two equal answers have different names."""
    answers = RememberedAnswers(4)
    assert answers.add("answer") != answers.add("answer")


def test_the_answer_not_used_for_longest_is_forgotten():
    """With room for two, the third answer displaces the one that was not used since."""
    answers = RememberedAnswers(2)
    first, second = answers.add("first"), answers.add("second")
    assert answers.get(first) == "first"
    third = answers.add("third")
    assert answers.get(second) is None
    assert (answers.get(first), answers.get(third)) == ("first", "third")
