"""paretune."""
