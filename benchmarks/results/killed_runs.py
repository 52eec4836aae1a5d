"""Kill a run at random moments; the next call must complete it, with the same bytes.

python benchmarks/results/killed_runs.py RECIPE OUT [COUNT]

Compares every file that the manifest does not name as varying (figures and dates) with those of an
undisturbed run. Prints how many differed: none should.
"""

from __future__ import annotations

import fnmatch
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(recipe: str, out: str, count: str = "50") -> None:
    """Run once undisturbed, then kill and go on, `count` times."""
    folder = Path(out)
    start = time.monotonic()
    whole = run(recipe, folder / "run")
    seconds = time.monotonic() - start
    drawn, differing, stages = random.Random(0), 0, []
    for i in range(int(count)):
        shutil.rmtree(folder / "run")
        moment = drawn.uniform(0, seconds)
        stages.append(killed(recipe, folder / "run", moment))
        found = run(recipe, folder / "run")
        differing += found != whole
        odd = sorted(name for name in whole | found if whole.get(name) != found.get(name))
        state = f"{', '.join(odd)} differ" if odd else "the same"
        sys.stderr.write(f"{i + 1}: killed after {moment:.1f} s, {stages[-1]} stages: {state}\n")
    sys.stdout.write(
        f"{count} kills within {seconds:.0f} s, after 0 to {max(stages)} whole stages: "
        f"{differing} results differ from the undisturbed one\n"
    )


def command(recipe: str, out: Path) -> list[str]:
    """The call that is killed, and repeated."""
    return [sys.executable, "-m", "compress_export", "run", recipe, "--out", str(out)]


def killed(recipe: str, out: Path, moment: float) -> int:
    """Start a run, kill it after some seconds; whole stages that it leaves."""
    process = subprocess.Popen(
        command(recipe, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(list(out.with_name(f"{out.name}.partial").glob("stages/*.json")))


def run(recipe: str, out: Path) -> dict[str, str]:
    """Run to the end; digests of the files that do not vary."""
    done = subprocess.run(command(recipe, out), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"the run after a kill ended with {done.returncode}: {done.stderr[-300:]}")
    if out.with_name(f"{out.name}.partial").exists():
        raise SystemExit("the run left its working folder")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return {
        name: digest
        for name, digest in manifest["files"].items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in manifest["varies"])
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
