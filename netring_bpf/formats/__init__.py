"""Flow events as text for people and for other tools."""
