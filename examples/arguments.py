"""What all examples are asked on the command line, and where they put what they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser that knows `--target` and `--output`; examples add their own.

    Args:
        doc: The example's docstring; its first line becomes the description.
    """
    description = (doc or "").partition("\n")[0]
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument(
        "--target",
        default=os.environ.get("UNITVEC_TARGET") or "localhost:50051",
        help="host:port of the server; without it the variable UNITVEC_TARGET",
    )
    made.add_argument(
        "--output", type=Path, default=Path("output"), help="folder of pictures and pages"
    )
    return made


def at_least(least: int) -> Callable[[str], int]:
    """Returns a type of flags: whole numbers from `least` on, of which fewer would show nothing."""

    def number(value: str) -> int:
        if not value.isdecimal() or int(value) < least:
            raise argparse.ArgumentTypeError(f"{value!r} is not a number of at least {least}")
        return int(value)

    return number


def output_file(folder: Path, name: str) -> Path:
    """Returns the path of a file to write into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
