"""Results → tables, statistics, figures. Never imports torch."""
