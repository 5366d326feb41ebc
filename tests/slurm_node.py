"""A real Slurm of one node, with two device nodes that stand for GPUs, for tests that run as root."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
# Jobs of the executor forget SLURM_CONF: the configuration must be where Slurm looks for it by itself.
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
GPUS, CPUS, MEGABYTES = 2, 16, 64000
# The node has no accounting; and a test need not wait as long as one should on a busy cluster.
OPTIONS = [
    *("--workflow-profile", "profiles/slurm", "--slurm-no-account", "--slurm-status-command", "squeue"),
    *("--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"),
]
SLURM_CONF = """
ClusterName=pathseg
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=20
GresTypes=gpu
Prolog={folder}/note_begin.sh
PrologFlags=Alloc
Epilog={folder}/note_end.sh
NodeName={host} CPUs={cpus} CoresPerSocket={cpus} RealMemory={megabytes} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
NOTE = """#!/bin/sh
echo "{what} $(date +%s.%N) $SLURM_JOB_ID $SLURM_JOB_GPUS" >> {folder}/jobs.txt
"""


def why_not():
    """Say why Slurm cannot be started here, or return None."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge"
    if SYSTEM_CONF.exists():
        return f"a Slurm is configured here already ({SYSTEM_CONF})"
    return None if os.geteuid() == 0 else "Slurm's daemons need root here"


class SlurmNode:
    """A running Slurm; its environment variables let a process talk to it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        self._write_files()
        self._daemons = [
            self.start("munged", "--foreground", "--force", *self._munge_options()),
        ]
        self._wait(lambda: (self.folder / "munge.socket").exists())
        self._daemons += [self.start("slurmctld", "-D"), self.start("slurmd", "-D")]
        self._wait(lambda: "idle" in self.run("sinfo", "--noheader", "--format", "%t"))

    def _munge_options(self):
        names = ("socket", "pid-file", "log-file", "seed-file")
        return [f"--key-file={self.folder}/munge.key", *(f"--{name}={self.folder}/munge.{name}" for name in names)]

    def _write_files(self):
        for number in range(GPUS):
            # A device that exists and does nothing: what counts is that Slurm hands it out.
            os.mknod(self.folder / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        for what in ("begin", "end"):
            script = self.folder / f"note_{what}.sh"
            script.write_text(NOTE.format(what=what, folder=self.folder))
            script.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        settings = {"host": host, "ports": free_ports(2), "cpus": CPUS, "megabytes": MEGABYTES, "gpus": GPUS}
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(folder=self.folder, **settings))
        (self.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n")
        SYSTEM_CONF.parent.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            link = SYSTEM_CONF.with_name(name)
            link.unlink(missing_ok=True)  # dangling: of a test that was killed
            link.symlink_to(self.folder / name)

    def start(self, *command):
        """Start a process that can talk to this Slurm."""
        with open(self.folder / f"{command[0]}.out", "w") as out:
            environment = os.environ | self.environment
            return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def run(self, *command):
        """Run a command that talks to this Slurm, and return what it printed."""
        done = subprocess.run(
            command, env=os.environ | self.environment, check=False, text=True, capture_output=True, timeout=60
        )
        return done.stdout

    def _wait(self, condition):
        for _ in range(300):
            if condition():
                return
            time.sleep(0.1)
        logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.out"))
        self.stop()
        raise RuntimeError(f"Slurm did not start:\n{logs}")

    def jobs(self):
        """Return what the node noted of each job: id -> (begin, end, its GPUs)."""
        jobs = {}
        for line in (self.folder / "jobs.txt").read_text().splitlines():
            what, when, job, *gpus = line.split()
            begin, end, _ = jobs.get(job, (None, None, None))
            held = set(gpus[0].split(",")) if gpus else set()
            jobs[job] = (float(when), end, held) if what == "begin" else (begin, float(when), held)
        return jobs

    def stop(self):
        """End all jobs and daemons."""
        self.run("scancel", "--user", "root")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(30)
        for name in ("slurm.conf", "gres.conf"):
            SYSTEM_CONF.with_name(name).unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count):
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def slurm():
    """A real Slurm of one node; tests that need it are skipped where it cannot be started."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    node = SlurmNode()
    yield node
    node.stop()
