import os

import pytest

from resnetcli import cpus
from resnetcli.cpus import usable_cpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sixteen CPUs, and control groups as `files` has them, by path below the mount."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)

    def usable(membership, files):
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return usable_cpus(tmp_path / "cgroup", tmp_path / "membership")

    return usable


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/outside/name\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "broken\n"}, 16),
        ("4:cpu,cpuacct:/c\n0::/\n", {"cpu,cpuacct/c/cpu.cfs_quota_us": "-1\n"}, 16),
        (
            "4:cpu,cpuacct:/c\n",
            {"cpu,cpuacct/c/cpu.cfs_quota_us": "500000\n", "cpu,cpuacct/c/cpu.cfs_period_us": "100000\n"},
            5,
        ),
        ("1:cpu:/elsewhere\n", {"cpu/cpu.cfs_quota_us": "700000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 7),
        ("3:cpuset:/c\n", {"cpuset/c/cpu.max": "100000 100000\n"}, 16),
        ("", {"cpu.max": "100000 100000\n"}, 16),
    ],
)
def test_the_smallest_quota_of_its_groups_and_of_those_around_them_holds(machine, membership, files, expected):
    assert machine(membership, files) == expected


def test_affinity_holds_and_where_there_is_none_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert usable_cpus(tmp_path, tmp_path / "none") == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cpus(tmp_path, tmp_path / "none") == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path, tmp_path / "none") == 1


def test_this_machine_has_some():
    assert 1 <= cpus.usable_cpus() <= (os.cpu_count() or 1)
