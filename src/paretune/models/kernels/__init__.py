"""What lies between a model's matrix products as machine code, by numba (the extra ``fast``).

:mod:`.dropout_rows` and :mod:`.softmax` are kernels: loops over numpy arrays of fp32, on one
thread, without the interpreter's lock. :mod:`.attention` and :mod:`.add_norm` have kernels of their
own, and are operations of autograd made of kernels and of torch's products. :mod:`.policy` says
which tensors they take. Dropout draws the same bits as :mod:`paretune.models.dropout.masks`; all
else is equal to the plain path but for rounding.
"""
