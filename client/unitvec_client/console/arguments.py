"""Flags of our commands."""

from __future__ import annotations

import argparse
from typing import Any


class StoreOnce(argparse.Action):
    """Keeps the value of a flag that can be given once: a second file would hide the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the value.

        Args:
            parser: Ends the program where the flag was given before.
            namespace: Holds the value.
            values: The value.
            option_string: The flag as it was written.
        """
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice: it takes one file")
        setattr(namespace, self.dest, values)
