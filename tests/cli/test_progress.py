"""Progress where stderr is no terminal."""

from budsim.cli.progress import progress, steps


def test_progress_is_one_line_of_quarters(capsys):
    """Each quarter is told once, all on one line."""
    with progress("searching") as tell:
        for share in (0.0, 0.1, 0.3, 0.3, 0.9, 1.0):
            tell(share)
    assert capsys.readouterr().err == "searching: 0 % 25 % 75 % 100 %\n"


def test_work_that_fails_early_leaves_no_open_line(capsys):
    """Nothing is printed when nothing was told."""
    with progress():
        pass
    assert capsys.readouterr().err == ""


def test_steps_are_named_as_they_begin(capsys):
    """Each step is a line of its own."""
    with steps() as step:
        step("reading")
        step("fitting")
    assert capsys.readouterr().err == "reading\nfitting\n"
