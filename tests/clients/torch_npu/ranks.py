"""Starts the ranks of a script as processes of this machine; knows no collectives."""

import os
import socket
import subprocess
import sys


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(script, arguments, count, **variables):
    """The exit codes of `count` processes of a script, which find their number in `RANK`; negative after a signal."""
    environment = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), WORLD_SIZE=str(count), **variables)
    environment.setdefault("ASCEND_EMULATOR_DEVICES", str(count))
    started = [subprocess.Popen([sys.executable, script, *arguments], env=dict(environment, RANK=str(rank))) for rank in range(count)]
    return [process.wait() for process in started]
