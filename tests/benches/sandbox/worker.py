"""Runs /bin/echo once for each line it reads, and answers how many nanoseconds that took:
worker.py subprocess|noxrunner SESSION"""
import subprocess
import sys
import time

how, session = sys.argv[1:]
client = None
if how == "noxrunner":
    from noxrunner import NoxRunnerClient

    client = NoxRunnerClient(local_test=True)
    client.create_sandbox(session)


def run(cmd):
    if client:
        return client.exec(session, cmd)["stdout"]
    return subprocess.run(cmd, capture_output=True, text=True).stdout


for line in sys.stdin:
    started = time.perf_counter_ns()
    output = run(["/bin/echo", line.strip()])
    took = time.perf_counter_ns() - started
    assert output == line, output
    print(took, flush=True)

if client:
    client.delete_sandbox(session)
