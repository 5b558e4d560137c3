"""Settings → a result."""
