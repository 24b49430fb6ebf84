"""What a start costs: `python -m bench.start ARTIFACT [FLAG ...]`.

Starts `unitvec-serve` with these flags a few times, one after the other, and prints what each had
taken by the moment it served: processor time of all its threads, time on the clock, and resident
memory. Processor time is what others on the machine disturb least.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.harness.procfs import processor_s

_STARTS = 5
_SERVING = " serving on "


class Start(NamedTuple):
    """One start, from the process's first moment until it serves.

    Attributes:
        processor_s: Processor time of all threads.
        wall_s: Time on the clock.
        resident_mib: Resident memory, in MiB.
    """

    processor_s: float
    wall_s: float
    resident_mib: float


def main() -> None:
    """Measures and prints."""
    print("processor s  wall s  resident MiB")
    for _ in range(_STARTS):
        start = measure(sys.argv[1:])
        print(f"{start.processor_s:11.2f} {start.wall_s:7.2f} {start.resident_mib:13.0f}")


def measure(arguments: list[str]) -> Start:
    """Starts a server of the artifact, the first argument, and ends it."""
    folder, *flags = arguments
    command = [sys.executable, "-m", "unitvec_server", "--model", folder, "--port", "0", *flags]
    started_s = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        lines = []
        for line in server.stderr:
            lines.append(line)
            if _SERVING in line:
                break
        else:
            sys.exit("".join(lines))
        wall_s = time.perf_counter() - started_s
        start = Start(processor_s(server.pid), wall_s, _resident_mib(server.pid))
        server.terminate()
    return start


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [kib] = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib) / 1024


if __name__ == "__main__":
    main()
