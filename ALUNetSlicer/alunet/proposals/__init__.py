"""Proposals for slices: where a slice's labels begin, how good they are expected to be, and what
correcting them costs.

Knows label maps and spacings alone: neither a model nor files. `neighbors` interpolates from the
drawn slices of a case, `expected` says how good that is, `effort` measures what is left to draw.
The record of a round reads efforts, so importing this package loads no scipy.
"""
