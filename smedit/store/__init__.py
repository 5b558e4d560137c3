"""Files that are complete or not there, and that say when they were altered."""
