"""Measured costs of a run: peak memory by phase, components, step time; and the machine.

A cost run is measured alone in a fresh process. A cost that could not be measured is absent and has
its reason under ``not_measured``; it is never 0. Keys of a record's ``measured``:

========================  ====================================================================
``phases``                ``load``, ``train``, ``evaluation``: each ``peak_bytes``; on CUDA also
                          ``allocated_peak_bytes``, ``reserved_peak_bytes``, ``process_bytes``
``peak_counter``          which counter gave ``peak_bytes``
``components``            ``weights_bytes``, ``gradients_bytes``, ``optimizer_bytes``,
                          ``activations_bytes``
``step_seconds``          ``median``, ``q1``, ``q3``, ``n``, after warm-up
``not_measured``          what is absent, and why
========================  ====================================================================

:mod:`.costs` computes costs instead of measuring them.
"""
