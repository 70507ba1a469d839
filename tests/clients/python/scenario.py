"""What the scenarios share: a client of the daemon, and what it must refuse."""

import json
import sys
import time
from datetime import datetime, timezone

from noxrunner import NoxRunnerClient, NoxRunnerHTTPError

base_url = sys.argv[1]
client = NoxRunnerClient(base_url)


def refused(status, part, call, *args, **kwargs):
    """The call is answered with this status, and an error in JSON that says `part`."""
    try:
        got = call(*args, **kwargs)
    except NoxRunnerHTTPError as e:
        error = json.loads(e.response_body)["error"]
        assert (e.status_code, part in error) == (status, True), (part, e.status_code, error)
        return error
    raise AssertionError(f"not refused: {args} {kwargs}: {got}")


def eventually(what, condition, within=20):
    """Waits until a condition holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_gone(session):
    """Whether there is no such sandbox."""
    try:
        client.exec(session, ["true"])
    except NoxRunnerHTTPError as e:
        assert e.status_code == 404, e
        return True
    return False


def said(session, *cmd, **kwargs):
    """What a command prints that succeeds."""
    result = client.exec(session, list(cmd), **kwargs)
    assert (result["exitCode"], result["stderr"]) == (0, ""), result
    return result["stdout"]


def expiry(answer):
    """When a sandbox expires: RFC 3339 in UTC, with one Z and nothing behind it."""
    text = answer["expiresAt"]
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if "." in text else "%Y-%m-%dT%H:%M:%SZ"
    return datetime.strptime(text, form).replace(tzinfo=timezone.utc)


def workspace_of(session):
    """The workspace as commands see it: `/workspace`, unless they see the machine's own files."""
    workspace = said(session, "pwd").rstrip("\n")
    assert (workspace == "/workspace") == (sys.argv[2] == "full"), workspace
    return workspace
