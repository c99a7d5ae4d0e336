"""A trained run as files for other libraries: PEFT's adapter, a merged checkpoint, our own
folder.
"""
