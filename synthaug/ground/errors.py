"""The one exception that means: the input cannot be used, and here is what to mend."""


class InputError(ValueError):
    """Unusable input. The message is one sentence that names the file, row or key and the mend.

    Command lines print the message alone (no traceback) and end with exit code 2.
    """
