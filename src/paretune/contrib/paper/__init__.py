"""The paper's conclusions as data, and what its own numbers and our records say of each."""
