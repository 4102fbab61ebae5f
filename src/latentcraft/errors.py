"""The one error a user sees as a single line."""


class UserError(Exception):
    """Something the user gave is wrong; the message names the bad thing and the mend, in one line.

    Command-line entry points print it without a traceback and exit with status 2. Library callers can catch it.
    """
