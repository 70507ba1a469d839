"""Ready, kept, expired, deleted."""

import time

from scenario import client, eventually, expiry, is_gone, refused, said

client.create_sandbox("s")
started = time.monotonic()
assert client.wait_for_pod_ready("s") is True
assert time.monotonic() - started < 10
assert client.wait_for_pod_ready("nobody", timeout=0.2, interval=0.1) is False

# Time to live: exactly True where it starts anew; whoever is not touched is gone with its files.
created = client.create_sandbox("touched")
assert client.touch("touched") is True
again = lambda: client._backend._json_request("POST", "/v1/sandboxes/touched/touch")
eventually("it lives longer", lambda: expiry(again()) > expiry(created))
assert said("touched", "echo", "alive") == "alive\n"
client.create_sandbox("short")
client.upload_files("short", {"f": "x"})
client.create_sandbox("short", ttl_seconds=1)
eventually("it expires", lambda: is_gone("short"))
for call, args in [
    (client.touch, []),
    (client.exec, [["true"]]),
    (client.upload_files, [{"x": "y"}]),
    (client.download_files, []),
    (client.delete_sandbox, []),
]:
    error = refused(404, "short", call, "short", *args)
    assert "create" in error or "PUT" in error, error
client.create_sandbox("short")
assert said("short", "ls", "-A") == ""

# Deleted once, with what runs in it.
client.exec_shell("s", "sleep 1000 & echo")
for session in ["s", "short", "touched"]:
    assert client.delete_sandbox(session) is True
    refused(404, session, client.delete_sandbox, session)
    assert is_gone(session)
