"""Study files that come with paretune_slovene (entry point ``paretune.studies``)."""
