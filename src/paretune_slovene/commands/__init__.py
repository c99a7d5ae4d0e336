"""Commands, one file each (entry point ``paretune.commands``)."""
