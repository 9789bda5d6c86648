"""Experiments with a simulated oracle: whole active-learning runs from hidden reference labels.

`alunet.simulate(...)` is `study.simulate`. Around it: `config` (what a study is, and what may
change on a second call), `grid` (which runs there are and in which order they are played), `tables`
and `plots` (what they leave behind), and `progress` (the display in a terminal). Importing this
package loads nothing heavy.
"""
