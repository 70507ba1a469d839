"""Commands, as lists and as lines of a shell, and what becomes of those that go wrong."""

import time

from scenario import client, refused, said, workspace_of

client.create_sandbox("s")

# A list is what it is: no shell looks at it.
result = client.exec("s", ["printf", "%s|", "$HOME", "a b", "*", "ünï"])
assert (result["exitCode"], result["stdout"], result["stderr"]) == (0, "$HOME|a b|*|ünï|", "")
assert type(result["durationMs"]) is int and 0 <= result["durationMs"] < 20_000, result

# A line is for a shell.
result = client.exec_shell("s", "printf 'b\\na\\n' | sort | head -n 1 && echo err >&2; exit 3")
assert (result["exitCode"], result["stdout"], result["stderr"]) == (3, "a\n", "err\n"), result
assert client.exec_shell("s", "echo $BASH_VERSION", shell="bash")["stdout"].strip()
assert client.exec_shell("s", "echo hello > f; cat < f; ls | wc -l")["stdout"] == "hello\n1\n"

# Variables and directories.
environment = {"A": "1", "B": "x=y z", "LEER": "", "ÜBER": "ö\n"}
result = client.exec_shell("s", 'echo "$A|$B|$LEER|"', env=environment)
assert result["stdout"] == "1|x=y z||\n", result
assert said("s", "env", env=environment).count("ÜBER=ö\n") == 1
workspace = workspace_of("s")
for workdir, seen in [
    ("/workspace", ""),
    ("/workspace/sub/dir", "/sub/dir"),
    ("sub", "/sub"),
    ("./sub/../sub/new dir", "/sub/new dir"),
    ("/etc", ""),
    ("../../..", ""),
]:
    assert said("s", "pwd", workdir=workdir) == f"{workspace}{seen}\n", workdir

# Nothing is at standard input, so that nobody waits for it.
assert said("s", "cat") == ""

# The status is the command's own, and what did not run is a result, too.
for cmd, status in [
    (["false"], 1),
    (["sh", "-c", "exit 255"], 255),
    (["sh", "-c", "kill -KILL $$"], 137),
    (["no-such-program"], 127),
    (["/tmp"], 126),
    (["rm", "-rf", "x"], 1),
]:
    result = client.exec("s", cmd)
    assert result["exitCode"] == status, (cmd, result)
assert result["stderr"] == "Command not allowed: rm\n", result

# A child that goes on does not keep the answer.
started = time.monotonic()
assert client.exec_shell("s", "sleep 1000 & echo started")["stdout"] == "started\n"
assert time.monotonic() - started < 10

# Text that is none comes with replacement characters; output has a bound, and the command its end.
assert said("s", "printf", "a\\377b") == "a\ufffdb"
result = client.exec_shell("s", "head -c 3000000 /dev/zero | tr '\\0' x; touch ended")
assert (result["exitCode"], result["stdout"]) == (0, "x" * (1 << 20))
assert result["stdoutTruncated"] is True and result["stderrTruncated"] is False
assert said("s", "ls", "ended") == "ended\n"

# Time.
started = time.monotonic()
result = client.exec_shell("s", "echo partial; echo why >&2; sleep 1000", timeout_seconds=4)
took = time.monotonic() - started
assert result["exitCode"] == 124 and 3.9 < took < 25, (took, result)
assert (result["stdout"], "why\n" in result["stderr"]) == ("partial\n", True), result
assert said("s", "echo", "after", timeout_seconds=19.5) == "after\n"
for seconds in [0, -1, 86401, "30", True]:
    refused(400, "timeoutSeconds", client.exec, "s", ["true"], timeout_seconds=seconds)

# What no command can be asked like that.
for part, cmd, more in [
    ("cmd", [], {}),
    ("cmd", "echo hi", {}),
    ("cmd", ["echo", 7], {}),
    ("cmd", None, {}),
    ("NUL", ["echo", "a\0b"], {}),
    ("NUL", ["true"], {"workdir": "a\0b"}),
    ("NUL", ["true"], {"env": {"A": "a\0b"}}),
    ("env", ["true"], {"env": {"A=B": "x"}}),
    ("env", ["true"], {"env": {"": "x"}}),
    ("env", ["true"], {"env": {"A": 7}}),
    ("workdir", ["true"], {"workdir": 7}),
]:
    refused(400, part, client.exec, "s", cmd, **more)
refused(404, "nobody", client.exec, "nobody", ["true"])
assert client.delete_sandbox("s")
