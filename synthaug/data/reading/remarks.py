"""What is worth saying of several images, said once."""

import logging


class Remarks:
    """Collects remarks on images and says each kind in one line, with how many it holds for and the first.

    Example:
        >>> remarks = Remarks()
        >>> remarks.add("a.nii", "is dark")
        >>> remarks.add("b.nii", "is dark")
        >>> remarks.lines()
        ['a.nii (and 1 more): is dark.']
    """

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def add(self, where: str, remark: str) -> None:
        """Note that ``remark`` holds for the image at ``where``."""
        self.found.setdefault(remark, []).append(where)

    def lines(self) -> list[str]:
        """A sentence for each kind of remark."""
        return [
            f"{places[0]}{f' (and {len(places) - 1} more)' if len(places) > 1 else ''}: {remark}."
            for remark, places in self.found.items()
        ]

    def say(self, logger: logging.Logger) -> None:
        """Write the lines as warnings, and forget them."""
        for line in self.lines():
            logger.warning(line)
        self.found.clear()
