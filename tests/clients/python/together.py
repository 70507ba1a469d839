"""Many at once: one client, as many threads, each with a sandbox of its own."""

import threading

from scenario import client, said

failures = []


def session(n):
    try:
        name = f"thread-{n}"
        client.create_sandbox(name)
        assert client.upload_files(name, {"n": str(n) * 1000})
        for _ in range(3):
            assert said(name, "sh", "-c", "cat n; echo") == str(n) * 1000 + "\n"
        assert client.touch(name) and client.download_files(name) and client.delete_sandbox(name)
    except BaseException as e:
        failures.append((n, e))


threads = [threading.Thread(target=session, args=[n]) for n in range(16)]
client.create_sandbox("slow")
slow = threading.Thread(target=lambda: client.exec("slow", ["sleep", "1000"], timeout_seconds=2))
slow.start()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
slow.join()
assert client.delete_sandbox("slow")
