"""How weights change: AdamW, the learning rate schedule, precision, weight interpolation."""
