"""Runs the terminal with `python -m budsim.cli`."""

from budsim.cli import main

main()
