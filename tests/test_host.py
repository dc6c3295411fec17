import os
import time
from pathlib import Path

import pytest

from brownfield.host import available_mib, data_mib, read_host

MEMINFO = "MemTotal:       24684092 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\nHugePages_Total:       0\n"
CPUINFO = (
    "processor\t: 0\nmodel name\t: Old Iron\nflags\t\t: fpu sse4_2 avx2 avx512_vnni\n\nprocessor\t: 1\nflags: fpu\n"
)


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, "proc/cpuinfo": CPUINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_facts_of_this_machine_agree_with_the_kernel() -> None:
    """What is read here is what the system itself says."""
    facts = read_host()
    assert facts.affinity_cores == len(os.sched_getaffinity(0))
    assert 1 <= facts.cores <= facts.affinity_cores
    total_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    assert 0 < facts.available_mib <= facts.memory_mib <= total_mib
    assert facts.machine == os.uname().machine
    assert facts.kernel == os.uname().release
    assert facts.landlock_abi >= 0


def test_a_machine_without_limits_is_its_own(tmp_path) -> None:
    """Without control groups the machine's memory and all cores of the affinity count; flags are those of models."""
    facts = read_host(_write(tmp_path, {}))
    assert facts.quota_cores is None
    assert facts.memory_mib == 24684092 // 1024
    assert facts.available_mib == 20000000 // 1024
    assert facts.cpu_model == "Old Iron"
    assert facts.cpu_flags == {"sse4_2", "avx2", "avx512_vnni"}


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/site/app\n",
            "sys/fs/cgroup/site/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/site/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/site/app/memory.max": "536870912\n",
            "sys/fs/cgroup/site/app/memory.current": "104857600\n",
        },
        {
            "proc/self/cgroup": "5:memory:/app\n4:cpu,cpuacct:/app\n1:name=systemd:/\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/app/memory.limit_in_bytes": "536870912\n",
            "sys/fs/cgroup/memory/app/memory.usage_in_bytes": "104857600\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    ],
    ids=["version 2", "version 1"],
)
def test_a_container_owns_what_its_group_grants(files, tmp_path) -> None:
    """Quota and memory limit of the control group, or of one above it, bound what can be used, in both versions."""
    facts = read_host(_write(tmp_path, files))
    assert facts.quota_cores == 1.5
    assert facts.cores == 1
    assert (facts.memory_mib, facts.available_mib) == (512, 412)


VERSION_2 = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/memory.max": f"{4096 << 20}\n",
    "sys/fs/cgroup/memory.current": f"{4000 << 20}\n",
}
VERSION_1 = {
    "proc/self/cgroup": "5:memory:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4096 << 20}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{4000 << 20}\n",
}


@pytest.mark.parametrize(
    ("files", "stated", "free_mib"),
    [
        (VERSION_2, f"anon 1\ninactive_file {3500 << 20}\nactive_file {200 << 20}\n", 3596),
        (VERSION_1, f"inactive_file 1\ntotal_inactive_file {3500 << 20}\n", 3596),
        (VERSION_2, f"inactive_file {9999 << 20}\n", 4096),
        (VERSION_2, None, 96),
        (VERSION_2, "inactive_file\ninactive_file many\ninactive_file -5\n\0", 96),
    ],
    ids=["version 2", "version 1", "more than is used", "no file", "an odd file"],
)
def test_page_cache_that_nobody_uses_is_free(files, stated, free_mib, tmp_path) -> None:
    """Large files that were read fill no container; a group that tells nothing of them is taken at its word."""
    root = _write(tmp_path, files)
    if stated is not None:
        next(root.glob("sys/fs/cgroup/**/memory.[cu]*")).with_name("memory.stat").write_text(stated)
    assert available_mib(root) == free_mib


@pytest.mark.parametrize(
    ("status", "mib"),
    [
        ("VmData:\t  307200 kB\nRssAnon:\t  102400 kB\nRssFile:\t  999999 kB\nRssShmem:\t    1024 kB\n", 300),
        ("VmData:\t  102400 kB\nRssAnon:\t   51200 kB\nRssFile:\t  999999 kB\nRssShmem:\t  512000 kB\n", 550),
        ("VmData:\t  102400 kB\n", 100),
        ("", 0),
    ],
    ids=["private", "shared", "an old kernel", "gone"],
)
def test_f11_shared_memory_counts_as_its_own(status, mib, tmp_path) -> None:
    """F-11: memory that a model takes as shared, which no bound on private memory sees, is seen all the same."""
    assert data_mib(7, _write(tmp_path, {"proc/7/status": status})) == mib


def test_a_machine_that_tells_nothing_is_no_error(tmp_path) -> None:
    """Missing kernel files give empty facts and at least one core."""
    facts = read_host(tmp_path)
    assert facts.cores >= 1
    assert (facts.memory_mib, facts.cpu_model, facts.cpu_flags) == (0, "", frozenset())


def test_a_quota_below_one_core_is_one_core(tmp_path) -> None:
    """Half a core's worth of time is still one core to run on."""
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    facts = read_host(_write(tmp_path, files))
    assert (facts.quota_cores, facts.cores) == (0.5, 1)


def test_the_kernel_is_tried_in_a_child(monkeypatch) -> None:
    """When the child cannot be started, the kernel's features count as missing and this process is not touched."""
    namespace = Path("/proc/self/ns/net").readlink()
    monkeypatch.setattr("sys.executable", "/does/not/exist")
    began = time.monotonic()
    facts = read_host()
    assert (facts.landlock_abi, facts.seccomp, facts.user_namespaces) == (0, False, False)
    assert Path("/proc/self/ns/net").readlink() == namespace
    assert time.monotonic() - began < 30
