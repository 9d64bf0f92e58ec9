"""python watched.py PARENT COMMAND …: a worker's command, which ends when the process PARENT is gone, however it went.

The parent, killed, cannot end anybody, and a worker may not ask for minutes whether it is alive: while it imports,
compiles, or computes a block. So this small program, a child of the parent, stands between them. It imports next to
nothing, and is run by its path.
"""

import os
import signal
import subprocess
import sys

POLL_S = 0.2
GRACE_S = 2.0  # for the command to end by itself


def main(parent: int, command: list[str]) -> int:
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)  # of a terminal, where the command hears it too
    while os.getppid() == parent:
        try:
            code = process.wait(POLL_S)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            continue
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
