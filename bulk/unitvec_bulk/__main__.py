"""The command `unitvec-bulk`: says what is missing before anything heavy is imported."""

from __future__ import annotations

import sys

_MISSING_STATUS = 2


def main() -> int:
    """Runs the command.

    Returns:
        Exit code; `flags.EPILOG` lists them.
    """
    try:
        from unitvec_bulk import cli

        return cli.main()
    except ModuleNotFoundError as exc:
        if (exc.name or "unitvec").startswith("unitvec"):
            raise  # that one comes with the command itself
        from unitvec_protos.installation import explain_missing

        sys.stderr.write(explain_missing("unitvec-bulk", exc.name, extra="bulk"))
        return _MISSING_STATUS


if __name__ == "__main__":
    sys.exit(main())
