"""Pretrained models: where their files lie, how they are opened, and what they are made of."""
