"""What interrupts a run: checkpoints, signals, memory that ends, divergence."""
