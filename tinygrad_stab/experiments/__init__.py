"""Reproduce: one file an experiment, each a function from a configuration to a result."""
