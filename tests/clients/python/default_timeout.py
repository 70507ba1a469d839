"""The client waits for answers as long as a command may take by default: 30 s. The answer to one that
takes longer must come before the client gives up, which fails this."""

import time

from scenario import client

client.create_sandbox("s")
started = time.monotonic()
result = client.exec("s", ["sh", "-c", "echo partial; sleep 1000"])
took = time.monotonic() - started
assert (result["exitCode"], result["stdout"]) == (124, "partial\n"), result
assert 29 < took, took
assert client.delete_sandbox("s")
