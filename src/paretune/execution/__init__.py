"""Executes the runs of a store: worker processes, the parent that drives them, the cost probe.

They hand out run ids, nothing else: ``training`` trains a run, and the store has its result. The
parent imports no torch.
"""
