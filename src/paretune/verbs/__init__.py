"""What a user can do with a study, as values: the command line prints what the Python API returns.

One file for each verb. Nothing here imports torch before it is needed, and ``report`` never does.
"""
