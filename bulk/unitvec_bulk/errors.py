"""What can go wrong with a job, as opposed to a row of it.

BulkError
├── UsageError      flags, inputs or options that cannot work
├── JobConflict     the folder belongs to another job, or to a run that goes on
└── JobFailed       the engine gave up, or too many rows failed
"""

from __future__ import annotations


class BulkError(Exception):
    """A job that cannot start or go on."""


class UsageError(BulkError):
    """Flags, inputs or options cannot work, whatever the state of the output."""


class JobConflict(BulkError):
    """The output folder belongs to another job, or to a run that goes on."""


class JobFailed(BulkError):
    """The job stopped before its end; the same command goes on from there."""
