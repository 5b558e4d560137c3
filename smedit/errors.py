"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input or a failed run: one line that says what, where and what to do.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


class DivergedError(UserError):
    """A loss, gradient, shift or logit is not finite: the run cannot go on with these settings."""
