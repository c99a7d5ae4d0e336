"""Runs on the machines of a cluster, with the store on the machine that hands them out."""
