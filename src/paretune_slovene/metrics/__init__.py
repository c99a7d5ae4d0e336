"""METEOR, and NLTK's words (entry point ``paretune.segment_metrics``)."""
