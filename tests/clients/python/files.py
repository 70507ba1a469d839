"""Files in and out."""

import hashlib
import io
import os
import tarfile
import tempfile

from scenario import client, refused, said

client.create_sandbox("s")
every_byte = bytes(range(256)) * 1000
random = os.urandom(5_000_000)
files = {
    "text.txt": "grüße\nzwei\n",
    "binary": every_byte,
    "empty": b"",
    "dir/nested/deep.py": "print('deep')\n",
    "dir/日本.txt": "unicode",
    "with space & more?.txt": "odd",
    "random": random,
}
bytes_of = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
assert client.upload_files("s", files) is True

# As commands see them.
assert said("s", "cat", "text.txt") == files["text.txt"]
assert said("s", "sha256sum", "random").split()[0] == hashlib.sha256(random).hexdigest()
assert said("s", "python3", "dir/nested/deep.py") == "deep\n"
assert said("s", "stat", "-c", "%a %s", "binary") == f"644 {len(every_byte)}\n"


def unpacked(archive):
    assert archive[:2] == b"\x1f\x8b", "no gzip"
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        return {os.path.normpath(m.name): tar.extractfile(m).read() for m in members}


def tree(top):
    found = {}
    for root, _, names in os.walk(top):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


# All of it, a part of it, one file of it.
assert unpacked(client.download_files("s")) == bytes_of
nested = {"nested/deep.py": bytes_of["dir/nested/deep.py"], "日本.txt": b"unicode"}
for src in ["/workspace/dir", "dir", "/workspace/x/../dir/"]:
    assert unpacked(client.download_files("s", src=src)) == nested, src
assert unpacked(client.download_files("s", src="binary")) == {"binary": every_byte}
with tempfile.TemporaryDirectory() as dir:
    assert client.download_workspace("s", os.path.join(dir, "all")) is True
    assert tree(os.path.join(dir, "all")) == bytes_of
    assert client.download_workspace("s", os.path.join(dir, "part"), src="/workspace/dir") is True
    assert tree(os.path.join(dir, "part")) == nested
    # What is not there is False here, whatever the reason.
    assert client.download_workspace("s", dir, src="/workspace/none") is False
    assert client.download_workspace("nobody", dir) is False

# Elsewhere, and over what is there. Outside is inside.
for dest, seen in [
    ("/workspace/new/dir", "new/dir"),
    ("other", "other"),
    ("/tmp", "$TMPDIR"),
    ("/etc", "."),
    ("../..", "."),
    ("dir/a b&c=d", "dir/a b&c=d"),
]:
    assert client.upload_files("s", {"moved": dest}, dest=dest) is True
    assert said("s", "sh", "-c", f'cat "{seen}/moved"') == dest
assert client.upload_files("s", {"text.txt": "other"})
assert said("s", "cat", "text.txt") == "other"
assert client.upload_files("s", {"../../up": "1", "/etc/absolute": "2"})
assert said("s", "sh", "-c", "cat up absolute") == "12"
# Through a link that a command has planted nothing leaves.
said("s", "ln", "-s", "/etc", "planted")
assert client.upload_files("s", {"planted/inside": "3"})
assert said("s", "sh", "-c", "test ! -L planted && cat planted/inside") == "3"
# Nothing is no error.
assert client.upload_files("s", {}) is True

# What is refused leaves nothing.
client.create_sandbox("empty")
send = client._backend._request
upload, tar = "/v1/sandboxes/empty/files/upload?dest=%2Fworkspace", "application/x-tar"
archive = client._tar_handler.create_tar(files)
refused(400, "archive", send, "POST", upload, b"hello, no archive" * 99, content_type=tar)
refused(400, "cut off", send, "POST", upload, archive[:-1000], content_type=tar)
refused(400, "", send, "POST", upload, b"", content_type=tar)
refused(415, "application/x-tar", send, "POST", upload, archive)
refused(404, "", send, "POST", "/v1/sandboxes/empty/nowhere", archive, content_type=tar)
refused(404, "nobody", client.upload_files, "nobody", files)
refused(404, "nobody", client.upload_files, "nobody", {"x": "y"})
refused(404, "nobody", client.download_files, "nobody")
refused(404, "/workspace/none", client.download_files, "s", src="none")
refused(400, "NUL", client.download_files, "s", src="a\0b")
assert said("empty", "ls", "-A") == ""
assert unpacked(client.download_files("empty")) == {}
# The control: whole it is taken.
assert send("POST", upload, archive, content_type=tar)[0] == 200
assert len(unpacked(client.download_files("empty"))) == len(files)
assert client.delete_sandbox("s") and client.delete_sandbox("empty")
