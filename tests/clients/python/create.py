"""Sandboxes are made with every option, once, and by names that have to be escaped."""

import urllib.parse
from datetime import datetime, timedelta, timezone

from scenario import NoxRunnerHTTPError, base_url, client, expiry, is_gone, refused, said


def lives(created, seconds):
    left = expiry(created) - datetime.now(timezone.utc)
    assert timedelta(seconds=seconds - 10) < left <= timedelta(seconds=seconds + 1), created


assert client.health_check()

# The defaults.
first = client.create_sandbox("s")
assert first["podName"], first
lives(first, 900)

# Made again it is the same one with its files, for as long as the last one said.
said("s", "touch", "kept")
again = client.create_sandbox("s", ttl_seconds=100)
lives(again, 100)
assert again["podName"] == first["podName"], (first, again)
assert said("s", "ls") == "kept\n"

# Every option. What cannot be had here is warned of, not refused.
everything = client.create_sandbox(
    "all",
    ttl_seconds=1800,
    image="python:3.12",
    cpu_limit="500m",
    memory_limit="512Mi",
    ephemeral_storage_limit="1Gi",
)
lives(everything, 1800)
assert everything["podName"] != first["podName"]
assert any("image" in warning for warning in everything["warnings"]), everything
assert said("all", "echo", "works") == "works\n"

# Nonsense is refused, and nothing is made of it.
for part, options in [
    ("ttlSeconds", {"ttl_seconds": 0}),
    ("ttlSeconds", {"ttl_seconds": -5}),
    ("ttlSeconds", {"ttl_seconds": 1.5}),
    ("ttlSeconds", {"ttl_seconds": "900"}),
    ("ttlSeconds", {"ttl_seconds": 10**9}),
    ("cpuLimit", {"cpu_limit": "fast"}),
    ("memoryLimit", {"memory_limit": "lots"}),
    ("memoryLimit", {"memory_limit": "-1Gi"}),
    ("ephemeralStorageLimit", {"ephemeral_storage_limit": "1Zi"}),
    ("image", {"image": 7}),
]:
    refused(400, part, client.create_sandbox, "nonsense", **options)
assert is_gone("nonsense")

# Names are different where they differ in anything; the client leaves it to its caller to quote.
names = ["a/b", "ab", "a_b", "a%2Fb", "..", "grüße 日本", "x" * 256]
for name in names:
    quoted = urllib.parse.quote(name, safe="").replace(".", "%2E")
    client.create_sandbox(quoted)
    client.upload_files(quoted, {"name": name})
for name in names:
    quoted = urllib.parse.quote(name, safe="").replace(".", "%2E")
    assert said(quoted, "cat", "name") == name, name
    assert client.delete_sandbox(quoted)
refused(400, "character", client.create_sandbox, "a%07b")
refused(400, "256", client.create_sandbox, "x" * 257)
refused(404, "", client.create_sandbox, "a/b")

# Health is what it looks for, and no daemon is no health.
assert not type(client)(base_url + "/nowhere").health_check()
assert client.delete_sandbox("s") and client.delete_sandbox("all")
try:
    client.delete_sandbox("s")
    raise AssertionError("deleted twice")
except NoxRunnerHTTPError as e:
    assert e.status_code == 404
