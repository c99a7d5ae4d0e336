"""The verbs of users. They return values, which the command line prints.

One file for each verb. Nothing here imports torch before it is needed, and ``report`` never does.
"""
