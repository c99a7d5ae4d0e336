"""The paper that paretune began with: its protocol as a preset, its conclusions as data."""
