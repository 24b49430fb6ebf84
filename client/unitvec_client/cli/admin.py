"""`unitvec admin`: what operators ask of a server, with a token of theirs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from unitvec_client.cli.flags import EXIT_OK, EXIT_SOME_FAILED, keywords_of
from unitvec_client.cli.output import format_table, open_output, write_records, write_text
from unitvec_client.client import Client
from unitvec_client.console.terminal import waiting_for, working
from unitvec_client.results import ReloadedModel

_HEAD = ("model", "outcome", "space", "bits", "reason")


def reload(client: Client, args: argparse.Namespace) -> int:
    """`unitvec admin reload`: exit code 0 unless a model was refused."""
    with open_output(args.output) as file:
        with working(waiting_for("loading models"), sys.stderr):
            found = client.reload_models(**keywords_of(args, "model", "timeout_s"))
        if args.format == "table":
            write_text(file, format_table(_HEAD, [_row(each) for each in found]))
        else:
            write_records(file, args.format, map(asdict, found))
    refused = any(each.outcome == "refused" for each in found)
    return EXIT_SOME_FAILED if refused else EXIT_OK


def _row(each: ReloadedModel) -> tuple[str, ...]:
    space, bits = each.space or "unknown", each.bits or "unknown"
    return (each.model, each.outcome, space, bits, each.reason)
