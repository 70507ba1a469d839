"""A session with a NoxRunner daemon, in Python's standard library alone: session.py SOCKET"""
import json
import socket
import sys

daemon = socket.socket(socket.AF_UNIX)
daemon.connect(sys.argv[1])
lines = daemon.makefile("rw", encoding="utf-8", newline="\n")

def call(method, **params):
    print(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}), file=lines, flush=True)
    answer = json.loads(lines.readline())
    if "error" in answer:
        sys.exit(answer["error"]["message"])
    return answer["result"]

call("sandbox.create", sessionId="python")
print(call("sandbox.exec", sessionId="python", cmd=["echo", "hello from", "python ✓"])["stdout"], end="")
call("sandbox.delete", sessionId="python")
