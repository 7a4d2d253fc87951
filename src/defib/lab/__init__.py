"""Every claim about zero derivatives as an experiment that anybody can run and change.

An experiment is a file in ``lab/experiments``: a question, the rows of the list of
claims that it settles, a prediction, a measurement. Its verdict is computed from
numbers with intervals (``lab.estimate``), never written down. Experiments measure
with torch and numpy alone: they contain none of defib's own judgement.
"""
