"""budsim: what to deploy, how it will perform, what it will cost, and how sure that is."""

__version__ = "0.1.0"
