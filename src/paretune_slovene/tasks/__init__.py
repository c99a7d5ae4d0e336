"""Tasks, one file each (entry point ``paretune.tasks``)."""
