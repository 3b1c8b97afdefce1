"""How many CPUs this process may use, which is often less than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs that the affinity of this process and the quotas of its control groups leave it, at least 1.

    A quota of one and a half counts as 1: a second thread would be stopped for half of the time, and the first would
    wait for it at every barrier. `cgroups` and `membership` are where Linux shows control groups, of version 1 or 2;
    elsewhere there are none.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min([cpus, *(int(quota) for quota in _quotas(cgroups, membership))]))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The CPU quota, in CPUs, of each group that this process is in and of the groups around it, where there is one.

    A container may see the path that its group has outside and yet only its own part of the tree, at the root. So a
    folder that does not exist is no error.
    """
    try:
        lines = membership.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            if controllers:
                yield from _quota(cgroups / controllers / folder)
                yield from _quota(cgroups / "cpu" / folder)
            else:
                yield from _quota(cgroups / folder)


def _quota(folder: Path) -> Iterator[float]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text("ascii") for name in names).split()[:2]
            if float(quota) > 0 and float(period) > 0:  # version 1 says -1 where there is none, version 2 "max"
                yield float(quota) / float(period)
        except (OSError, ValueError):
            continue
