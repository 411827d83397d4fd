"""The Python API behind `import budsim`: four questions, and answers that notebooks show."""
