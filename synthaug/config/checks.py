"""What a setting must satisfy."""

from synthaug.ground.errors import InputError


def require(holds: bool, message: str) -> None:
    """InputError with the message, unless it holds."""
    if not holds:
        raise InputError(message)
