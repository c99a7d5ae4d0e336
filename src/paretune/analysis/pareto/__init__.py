"""Quality against cost: costs of a cell, the Pareto front, the recommendation, the tuning
budget.
"""
