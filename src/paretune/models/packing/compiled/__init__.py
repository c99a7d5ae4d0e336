"""Passes between products as machine code, by numba (the extra ``fast``); nothing else needs it.

:mod:`.draws` (dropout), :mod:`.heads` (rows to heads and back), :mod:`.softmax` and :mod:`.norm`
are the kernels: loops over numpy arrays of fp32, on one thread, without the interpreter's lock.
:mod:`.attention` and :mod:`.normalising` are autograd's nodes made of them and of torch's products.
Which tensors they take, :mod:`paretune.models.kernels.policy` says. Dropout draws the same bits as
:mod:`paretune.models.dropout.rng`; all else is equal to the plain path but for rounding.
"""
