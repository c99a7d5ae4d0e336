"""Mirrors of a store in other people's experiment trackers; one file for each of them.

The store is the source of truth. A tracker receives what the store holds, run by run, and reports
itself which runs it holds completely: mirroring again adds what is new, duplicates nothing, and
completes a mirror that was interrupted. No run of a study waits for a tracker or fails with it.
Nothing is sent anywhere: all write to a folder (MLflow also to a server, where its address is
given).
"""
