"""Damages every kind of file that is read, at random and by a seed. It is a volume, or one line of BadInput.

    python tests/volumes/fuzz.py --count 10000         all kinds, so many mutations of each; exit code 1 for failures
    python tests/volumes/fuzz.py --kind mrc --first 17 --count 1          one of them again

Files are opened in a process of their own, which may take a GB more than it has at the start, and ten seconds of the
processor for a file; where it dies, the next one goes on behind the file that killed it.
"""

import argparse
import contextlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from fuzz_kinds import KINDS
from fuzz_mutations import mutate, random_of

from maeref_jax.errors import BadInput

MEMORY_BYTES, SECONDS = 1 << 30, 10  # of the processor
ENDS = ("read", "refused", "stumbled")
_OURS = "please report this"  # told by who catches everything: neither a failure nor well told


class TooLong(BaseException):
    """A file that takes longer than any should."""


def outcome(kind, folder, files, number):
    """What one mutation ends in: "read", "refused", "stumbled" (refused, by a library's exception), or a traceback."""
    chance = random_of(kind, number)
    name = chance.choice(sorted(files))
    damaged = mutate(chance, files[name], files)
    (folder / name).write_bytes(damaged)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        KINDS[kind].read(folder, chance)
        return "read"
    except BadInput as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            return f"no line: {str(error)[:500]!r}"
        return "stumbled" if _OURS in str(error) else "refused"
    except (Exception, TooLong):
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        (folder / name).write_bytes(files[name])


def work(tasks):
    """Does every (kind, first number, count) and prints a JSON line for every outcome: the last one tells where a
    process died.
    """

    def too_long(*_):
        raise TooLong

    signal.signal(signal.SIGPROF, too_long)
    for kind, first, count in tasks:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            KINDS[kind].make(folder)
            files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for number in (-1, -2, -3):  # what is loaded late is loaded now
                with contextlib.suppress(BadInput):
                    KINDS[kind].read(folder, random_of(kind, number))
            limit_memory()
            for number in range(first, first + count):
                print(json.dumps([kind, number, outcome(kind, folder, files, number)]), flush=True)


def limit_memory():
    """A GB more than this process has now, and no more."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run(tasks):
    """({kind: how many of each outcome}, [(kind, number, traceback or what became of the process)]) of the tasks."""
    counts, failures = {kind: Counter() for kind, _, _ in tasks}, []
    while tasks:
        command = [sys.executable, "-W", "ignore", __file__, "--here", json.dumps(tasks)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        results = list(map(json.loads, done.stdout.splitlines()))
        for kind, number, found in results:
            counts[kind][found if found in ENDS else "failed"] += 1
            failures += [] if found in ENDS else [(kind, number, found)]
        kind, number = results[-1][:2] if results else (tasks[0][0], tasks[0][1] - 1)
        at = [name for name, _, _ in tasks].index(kind)
        _, first, count = tasks[at]
        tasks = [(kind, number + 1, first + count - number - 1), *tasks[at + 1 :]]
        tasks = [task for task in tasks if task[2]]
        if not tasks:
            break
        kind, number, count = tasks[0]
        failures.append((kind, number, f"the process ended with {done.returncode}: {done.stderr[-2000:]}"))
        counts[kind]["failed"] += 1
        tasks = [task for task in [(kind, number + 1, count - 1), *tasks[1:]] if task[2]]
    return counts, failures


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS))
    flags.add_argument("--first", type=int, default=0)
    flags.add_argument("--count", type=int, default=300)
    flags.add_argument("--together", action="store_true", help="all kinds in one process, which starts faster")
    flags.add_argument("--here", help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.here:
        work(json.loads(given.here))
        return 0
    bad = False
    print(f"{'kind':18} {''.join(f'  {end}' for end in (*ENDS, 'failed'))}  seconds")
    tasks = [(kind, given.first, given.count) for kind in given.kind]
    for some in [tasks] if given.together else [[task] for task in tasks]:
        start = time.monotonic()
        counts, failures = run(some)
        for kind, found in counts.items():
            cells = "".join(f"{found[end]:{len(end) + 2}}" for end in (*ENDS, "failed"))
            print(f"{kind:18} {cells}  {time.monotonic() - start:.0f}", flush=True)
        for kind, number, what in failures[:5]:
            print(f"--- --kind '{kind}' --first {number} --count 1\n{what}", flush=True)
        bad |= bool(failures)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
