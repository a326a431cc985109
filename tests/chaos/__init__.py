"""A small mesh of real processes is put through every trouble while calls go on; `--help` says more."""


class ChaosError(Exception):
    """Something did not come right; the text says what."""
