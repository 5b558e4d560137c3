"""Configuration → settings → runs. Pure Python and pandas."""
