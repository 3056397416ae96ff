"""A Slurm cluster on this machine's loopback, for tests: `python tests/cluster/slurm.py start|stop|status`.

munge, MariaDB, slurmdbd, slurmctld and two node daemons that pretend to be machines, on Debian's packages and as root.
Everything lies in one folder, except the configuration: Snakemake's executor strips SLURM_* from the environment, so
it stands in /etc/slurm. A configuration there that is not ours is never touched.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

CONFIGURATION = Path("/etc/slurm")
FOLDER = Path("/var/lib/ct2vq-slurm")
MARK = "# Written by ct2vq's tests/cluster/slurm.py, which removes it again.\n"
PROGRAMS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct", "srun")
PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd mariadb-server"
NODES = ("node1", "node2")
#: a daemon's port; node daemons have the ones after `slurmd`
PORTS = {"slurmctld": 16817, "slurmdbd": 16819, "mariadbd": 16820, "slurmd": 16821}
ACCOUNT = "study"
SAVED_S = 10.0
START_S = 30

#: one line for what a test needs: loopback only, two nodes of any size on one machine, a dead node seen after thirty
#: seconds, a requeued job started after fifteen instead of 120, memory watched every second and enforced, preemption
SLURM = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[slurmctld]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmdParameters=config_overrides
SlurmdTimeout=30
AuthInfo=socket={folder}/munge.socket,cred_expire=15
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[slurmdbd]}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
ReturnToService=2
KillWait=5
GresTypes=gpu
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostName={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=64000 Gres=gpu:2"
#: devices that every machine has stand for two GPUs
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={ports[slurmdbd]}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[mariadbd]}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


class ClusterError(Exception):
    """The cluster cannot be started, or does not do what was asked for."""


def missing_programs() -> list[str]:
    """Programs of Slurm, munge and MariaDB that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Cluster:
    """The cluster whose files lie in a folder; several commands and processes may work on it.

    Attributes:
        folder: state, sockets and logs; removed by `stop`.
    """

    folder: Path = FOLDER

    @property
    def name(self) -> str:
        """The cluster's name in Slurm, by which its jobs are known from those of any other."""
        return f"ct2vq{zlib.crc32(str(self.folder).encode()):08x}"

    def start(self) -> None:
        """Start everything and wait until all nodes are idle.

        Raises:
            ClusterError: not root, programs missing, somebody else's configuration, or a daemon that does not come up.
        """
        _require_root_and_programs()
        self._write_configuration()
        try:
            self._start_munge()
            self._start_database()
            self._start_accounting()
            self.start_controller()
            for name in NODES:
                self.start_node(name)
        except ClusterError as error:
            said = self._last_words()
            self.stop()
            raise ClusterError(f"{error}\n{said}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all jobs and daemons and remove every file; does nothing where there is none of ours."""
        for name in (*NODES, "slurmctld", "slurmdbd", "mariadbd", "munged"):
            if name in NODES:
                self.kill_node(name)
            self._end(name)
        for file in _configuration_files():
            if _is_ours(file):
                file.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def status(self) -> dict[str, bool]:
        """Whether each daemon runs."""
        return {
            name: self._process(name) is not None for name in ("munged", "mariadbd", "slurmdbd", "slurmctld", *NODES)
        }

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self._daemon("slurmctld", "slurmctld", "-D")
        _wait(lambda: _answers("scontrol", "ping"), "slurmctld answers")

    def kill_controller(self) -> None:
        """SIGKILL slurmctld: no job notices, no command is answered.

        One that dies within five seconds of a submission (SAVE_MAX_WAIT in Slurm's state_save.c) has not written it
        down: it forgets these jobs and gives their numbers to others. Who has just submitted waits `SAVED_S` before.
        """
        self._end("slurmctld", signal.SIGKILL)

    def start_node(self, name: str) -> None:
        """Start a node daemon and wait until its node takes jobs."""
        self._daemon(name, "slurmd", "-D", "-N", name)
        _wait(
            lambda: command("sinfo", "-h", "-n", name, "-o", "%T").split()[:1] in (["idle"], ["mixed"]), f"{name} is up"
        )

    def kill_node(self, name: str) -> list[int]:
        """SIGKILL a node daemon with all that runs on its node, as when a machine loses its power.

        Returns:
            The processes of jobs that were killed.
        """
        self._end(name, signal.SIGKILL)
        killed = list(_processes_of(self.name, name))
        for process in killed:
            _kill(process)
        psutil.wait_procs(killed, timeout=10)
        return [process.pid for process in killed]

    def _write_configuration(self) -> None:
        for file in _configuration_files():
            if file.exists() and not _is_ours(file):
                raise ClusterError(f"{file} is not ours: this machine has a Slurm of its own, which stays as it is")
        if any(self.status().values()):
            raise ClusterError("the cluster runs already (tests/cluster/slurm.py stop)")
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("state", "log", "pids", *(f"spool.{name}" for name in NODES)):
            (self.folder / name).mkdir(parents=True)
        host = socket.gethostname().partition(".")[0]
        ports = [PORTS["slurmd"] + number for number in range(len(NODES))]
        nodes = [NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, ports, strict=True)]
        values = {"cluster": self.name, "folder": self.folder, "ports": PORTS, "host": host, "nodes": "\n".join(nodes)}
        password = secrets.token_hex(16)
        CONFIGURATION.mkdir(exist_ok=True)
        for file, text in zip(_configuration_files(), (SLURM, GRES, DATABASE), strict=True):
            # slurmdbd insists on a file that nobody else can read
            file.touch(mode=0o600 if text is DATABASE else 0o644)
            file.write_text(MARK + text.format(**values, password=password), encoding="utf-8")
        user = f"'slurm'@'127.0.0.1' IDENTIFIED BY '{password}'"
        sql = f"CREATE DATABASE slurm;\nCREATE USER {user};\nGRANT ALL ON slurm.* TO {user};\n"
        (self.folder / "init.sql").touch(mode=0o600)
        (self.folder / "init.sql").write_text(sql, encoding="utf-8")

    def _start_munge(self) -> None:
        key, connection = self.folder / "munge.key", self.folder / "munge.socket"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {"key-file": key, "socket": connection}
        files |= {f"{name}-file": self.folder / f"munge.{name}" for name in ("pid", "log", "seed")}
        self._daemon("munged", "munged", "--foreground", *(f"--{name}={file}" for name, file in files.items()))
        _wait(connection.exists, "munged listens")

    def _start_database(self) -> None:
        data = self.folder / "database"
        install = ("--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db")
        command("mariadb-install-db", *install, "--auth-root-authentication-method=normal")
        options = ("--no-defaults", "--user=root", f"--datadir={data}", f"--socket={self.folder}/mariadb.socket")
        options += ("--bind-address=127.0.0.1", f"--port={PORTS['mariadbd']}", f"--pid-file={self.folder}/mariadb.pid")
        options += ("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--skip-name-resolve")
        self._daemon("mariadbd", "mariadbd", *options, f"--init-file={self.folder}/init.sql")
        _wait(lambda: _listens(PORTS["mariadbd"]), "mariadbd listens")

    def _start_accounting(self) -> None:
        self._daemon("slurmdbd", "slurmdbd", "-D")
        _wait(lambda: _answers("sacctmgr", "-n", "list", "cluster"), "slurmdbd answers")
        for words in (("cluster", self.name), ("account", ACCOUNT), ("user", "root", f"account={ACCOUNT}")):
            command("sacctmgr", "--immediate", "add", *words)

    def _last_words(self) -> str:
        """The end of every daemon's log."""
        logs = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(encoding='utf-8', errors='replace')[-500:]}" for log in logs)

    def _daemon(self, name: str, *words: str) -> None:
        """Start a daemon in the foreground of a session of its own and note its process."""
        with open(self.folder / "log" / f"{name}.log", "ab") as log:
            process = psutil.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=_plain()
            )
        note = {"pid": process.pid, "created": process.create_time()}
        (self.folder / "pids" / name).write_text(json.dumps(note), encoding="utf-8")

    def _process(self, name: str) -> psutil.Process | None:
        """A daemon's process, None if it does not run; a process of another that has its number by now is not it."""
        note = self.folder / "pids" / name
        if not note.is_file():
            return None
        known = json.loads(note.read_text(encoding="utf-8"))
        try:
            process = psutil.Process(known["pid"])
            alive = process.status() != psutil.STATUS_ZOMBIE
            return process if alive and process.create_time() == known["created"] else None
        except psutil.NoSuchProcess:
            return None

    def _end(self, name: str, by: signal.Signals = signal.SIGTERM) -> None:
        process = self._process(name)
        if process is None:
            return
        family = [process, *process.children(recursive=True)]
        process.send_signal(by)
        _, alive = psutil.wait_procs(family, timeout=15)
        for other in alive:
            _kill(other)
        psutil.wait_procs(alive, timeout=5)


def command(*words: str) -> str:
    """Output of a command of the cluster.

    Raises:
        ClusterError: it failed, with what it said.
    """
    result = subprocess.run(words, capture_output=True, text=True, env=_plain(), timeout=START_S)
    if result.returncode:
        raise ClusterError(f"{' '.join(words)}: {result.stdout}{result.stderr}")
    return result.stdout


def _plain() -> dict[str, str]:
    """The environment without what a user's own Slurm left in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SACCT"))}


def _configuration_files() -> tuple[Path, Path, Path]:
    return CONFIGURATION / "slurm.conf", CONFIGURATION / "gres.conf", CONFIGURATION / "slurmdbd.conf"


def _is_ours(file: Path) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8").startswith(MARK)


def _require_root_and_programs() -> None:
    if os.geteuid() != 0:
        raise ClusterError("the cluster's daemons need root")
    if missing := missing_programs():
        raise ClusterError(f"not installed: {', '.join(missing)} (apt-get install {PACKAGES})")


def _answers(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, env=_plain(), timeout=START_S).returncode == 0


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(f"after {START_S} s it is still not so that {what}")
        time.sleep(0.1)


def _processes_of(cluster: str, node: str) -> Iterator[psutil.Process]:
    """What runs on a node of a cluster for its jobs: their processes, and the slurmstepd above them."""
    seen = set()
    for process in psutil.process_iter():
        try:
            known = process.environ()
            if (known.get("SLURM_CLUSTER_NAME"), known.get("SLURMD_NODENAME")) != (cluster, node):
                continue
            family = [process, *(one for one in process.parents() if one.name() == "slurmstepd")]
        except psutil.Error:
            continue
        yield from (one for one in family if one.pid not in seen)
        seen |= {one.pid for one in family}


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def main() -> None:
    """Start, stop or look at the cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop", "status"))
    cluster = Cluster()
    try:
        getattr(cluster, action := parser.parse_args().action)()
    except ClusterError as error:
        sys.exit(f"{error}")
    if action == "status":
        print("\n".join(f"{name}\t{'up' if up else 'down'}" for name, up in cluster.status().items()))


if __name__ == "__main__":
    main()
