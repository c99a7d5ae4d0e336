"""From the name of a model in a study file to a folder of checked files on this machine."""
