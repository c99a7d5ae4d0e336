"""Figures of a report.

``bars``, ``memory_stack``, ``pareto``, ``model_size`` and ``learning_curves`` lay out (numbers in
units of an SVG view box, drawn by the page's templates); ``mpl_*`` draw the same with matplotlib;
``vega_data`` is what the page's script draws.
"""
