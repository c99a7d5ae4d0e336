"""Who executes the runs of a store: worker processes, the parent that drives them, the cost probe.

They hand out run ids, nothing else: what a run does is training's business, and what it left is
in the store. The parent imports no torch.
"""
