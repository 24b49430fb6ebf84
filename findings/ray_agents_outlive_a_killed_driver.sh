#!/usr/bin/env bash
# Versions: ray 2.60.0 (Python 3.11, Linux).
# Guess: `ray.init()` on one machine starts children of this program; where it is killed (OOM, `kill -9`), they end with
#   it within moments, as the raylet and the GCS do, so whoever starts the job again finds a free machine.
# Seen: the raylet and the GCS end at once. `DashboardAgent` and `RuntimeEnvAgent` live on for a minute with some 100 MiB
#   each, because they first try to reach the GCS that is gone. A supervisor that waits for all processes of a job, or counts
#   the memory of a fresh start, has to wait for as long.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[default]==2.60.0"
cat >"$folder/driver.py" <<'PYTHON'
import sys
import time

import ray

ray.init(num_cpus=1, log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[1])
ray.get(ray.remote(lambda: 1).remote())
print("ready", flush=True)
time.sleep(600)
PYTHON
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import subprocess
import sys
import time
from pathlib import Path

folder = sys.argv[1]


def stat(pid):
    """State and parent of a process; a dead one that nobody collected counts as gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def below(pid):
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    children = [one for one in pids if stat(one) == pid]
    return children + [deeper for child in children for deeper in below(child)]


def name(pid):
    try:
        first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().strip()
    except OSError:
        return "?"
    named = first.startswith("ray::") or first.endswith(("/raylet", "/gcs_server"))
    return Path(first).name if named else "python"


driver = subprocess.Popen([sys.executable, f"{folder}/driver.py", f"{folder}/ray"], stdout=subprocess.PIPE)
driver.stdout.readline()
names = {pid: name(pid) for pid in below(driver.pid)}
driver.kill()
driver.wait()
killed_s = time.monotonic()
after_20_s = None
while alive := [pid for pid in names if stat(pid) is not None]:
    passed_s = time.monotonic() - killed_s
    if after_20_s is None and passed_s > 20:
        after_20_s = sorted(names[pid] for pid in alive)
        print(f"of {sorted(names.values())}, alive 20 s after the kill: {after_20_s}", flush=True)
    if passed_s > 200:
        break
    time.sleep(0.5)
print(f"the last one ended after {time.monotonic() - killed_s:.0f} s")
agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
sys.exit(0 if after_20_s is not None and agents <= set(after_20_s) and not alive else 1)
PYTHON
