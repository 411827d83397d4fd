"""Tools for agents: the questions of the Python API as a server of the Model Context Protocol."""
