"""A stand-in for the Hub: its HTTP interface as far as huggingface_hub, transformers and datasets use it, on this machine.

    with HubServer() as hub:
        HfApi(endpoint=hub.url, token=OWNER).create_repo("anna/dance")

Repositories with branches and commits, large files by LFS and a redirect, private and gated repositories, the check of a card's
metadata. `hub.requests` is what was asked for, in order, as (method, path).
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from card_rules import card_errors

OWNER, GUEST = "owner-token", "guest-token"
LARGE = (".safetensors", ".parquet", ".mp4", ".png")


@dataclass
class Repository:
    """Files by commit, commits by branch."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        content = json.dumps([branch, len(self.commits), sorted(files)]).encode()
        sha = hashlib.sha1(content).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def sha_of(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.sha_of(revision)]


class Refusal(Exception):
    """An answer that is an error, as the Hub gives it."""

    def __init__(self, status: int, code: str = "", message: str = "", body: dict | None = None, **headers: str):
        self.status, self.body = status, body or {"error": message or code}
        self.headers = {"X-Error-Code": code, "X-Error-Message": message or code, **headers}


class HubServer:
    """The server, in a thread of its own.

    Attributes:
        url: for `HF_ENDPOINT`.
        repositories: by (type, id), type "model" or "dataset".
        granted: tokens that may see gated repositories.
        requests: (method, path) in order.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.granted = {OWNER}
        self.requests: list[tuple[str, str]] = []
        self.unknown: list[tuple[str, str]] = []

    def __enter__(self) -> "HubServer":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def environment(self, home: Path) -> dict[str, str]:
        """For a process of its own: logged in to this Hub, with an empty cache."""
        settings = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": OWNER}
        return settings | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}

    def downloads(self) -> list[str]:
        """Names of the files whose content was fetched, in order."""
        found = []
        for method, path in self.requests:
            if method == "GET" and "/resolve/" in path:
                found.append(path.partition("/resolve/")[2].partition("/")[2])
            elif method == "GET" and path.startswith("/cdn/"):
                found.append(unquote(path.split("/")[3]))
        return found

    def shards(self) -> set[str]:
        return {name for name in self.downloads() if name.endswith(".safetensors")}


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob_id(content)}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.hub.requests.append((self.command, parts.path))
        self.body = self._read_body()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.token = token or None
        try:
            for methods, pattern, action in _ROUTES:
                match = re.fullmatch(pattern, parts.path)
                if match and self.command in methods:
                    return action(self, **{k: v and unquote(v) for k, v in match.groupdict().items()})
            self.hub.unknown.append((self.command, parts.path))
            raise Refusal(404, "", "no such page")
        except Refusal as refusal:
            self._json(refusal.body, refusal.status, refusal.headers)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, content: bytes, status: int = 200, headers: dict | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **(headers or {})}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content, status: int = 200, headers: dict | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _part(self, content: bytes, headers: dict) -> None:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self._send(content, 200, headers)
        first = int(wanted[1])
        last = min(int(wanted[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(content[first : last + 1], 206, headers)

    # who may see what

    def _repository(self, kind: str, name: str, *, write: bool = False, content: bool = False) -> Repository:
        found = self.hub.repositories.get((kind, name))
        if found is None or (found.private and self.token != OWNER):
            raise Refusal(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
        if write and self.token != OWNER:
            raise Refusal(403, "", "You don't have the rights to write to this repository")
        if content and found.gated and self.token not in self.hub.granted:
            raise Refusal(
                401 if self.token is None else 403,
                "GatedRepo",
                f"Access to model {name} is restricted. You must have access to it and be authenticated to access it.",
            )
        return found

    def _at(self, repository: Repository, revision: str | None) -> str:
        sha = repository.sha_of(revision or "main")
        if sha is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # the interface

    def whoami(self) -> None:
        if self.token != OWNER:
            raise Refusal(401, "", "Invalid user token.")
        self._json({"name": "anna", "type": "user", "orgs": [], "auth": {"type": "access_token"}})

    def create(self) -> None:
        if self.token != OWNER:
            raise Refusal(401, "", "Invalid username or password.")
        asked = json.loads(self.body)
        kind = asked.get("type") or "model"
        name = f"{asked.get('organization') or 'anna'}/{asked['name']}"
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.hub.repositories:
            return self._json({"error": "You already created this repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        made = self.hub.repositories[kind, name] = Repository(private=private)
        made.commit("main", {".gitattributes": b""}, "initial commit")
        self._json({"url": url, "name": name, "id": name})

    def validate_yaml(self) -> None:
        asked = json.loads(self.body)
        errors = card_errors(asked["content"], asked["repoType"])
        answer = {"errors": [{"message": text} for text in errors], "warnings": []}
        self._json(answer, 400 if errors else 200)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(kind, name, write=True)
        files = repository.files(revision) if repository.sha_of(revision) else {}
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": self._oid(file["path"], files),
            }
            for file in json.loads(self.body)["files"]
        ]
        self._json({"files": modes})

    @staticmethod
    def _oid(path: str, files: dict[str, bytes]) -> str | None:
        if path not in files:
            return None
        entry = _entry(path, files[path])
        return entry.get("lfs", entry)["oid"]

    def lfs_batch(self, name: str, kind: str | None = None) -> None:
        self._repository("dataset" if kind else "model", name, write=True)
        objects = [
            {**asked}
            if asked["oid"] in self.hub.blobs
            else {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}
            for asked in json.loads(self.body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "", "content and hash differ")
        self.hub.blobs[oid] = self.body
        self._send(b"")

    def commit(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(kind, name, write=True)
        files, message = dict(repository.commits[self._at(repository, revision)]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(revision, files, message)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}"})

    def branch(self, kind: str, name: str, branch: str) -> None:
        repository = self._repository(kind, name, write=True)
        if branch in repository.branches:
            raise Refusal(409, "", "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        repository = self._repository(kind, name)
        sha = self._at(repository, revision)
        siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        flags = {"private": repository.private, "gated": "manual" if repository.gated else False, "disabled": False}
        self._json({"id": name, "modelId": name, "sha": sha, "siblings": siblings, "tags": [], **flags})

    def tree(self, kind: str, name: str, revision: str, folder: str | None = None) -> None:
        repository = self._repository(kind, name, content=True)
        prefix = f"{folder}/" if folder else ""
        entries, folders = [], set()
        for path, content in sorted(repository.commits[self._at(repository, revision)].items()):
            inside = path.removeprefix(prefix) if path.startswith(prefix) else None
            if inside is None:
                continue
            if "/" in inside and self.query.get("recursive", "").lower() != "true":
                folders.add(prefix + inside.partition("/")[0])
            else:
                entries.append(_entry(path, content))
        entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        if folder and not entries:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        self._json(entries)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(kind, name, content=True)
        files = repository.commits[self._at(repository, revision)]
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        found = []
        for path in paths:
            if path in files:
                found.append(_entry(path, files[path]))
            elif any(other.startswith(f"{path}/") for other in files):
                found.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        self._json(found)

    def refs(self, kind: str, name: str) -> None:
        repository = self._repository(kind, name)
        branches = [
            {"name": n, "ref": f"refs/heads/{n}", "targetCommit": sha} for n, sha in repository.branches.items()
        ]
        self._json({"branches": branches, "tags": [], "converts": []})

    def resolve(self, name: str, revision: str, path: str, kind: str | None = None) -> None:
        repository = self._repository("dataset" if kind else "model", name, content=True)
        sha = self._at(repository, revision)
        if path not in repository.commits[sha]:
            raise Refusal(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        content = repository.commits[sha][path]
        entry = _entry(path, content)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{entry["oid"]}"'}
        if "lfs" not in entry:
            return self._part(content, headers)
        oid = entry["lfs"]["oid"]
        self.hub.blobs[oid] = content
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # another host, which must not be sent the token
        self._send(b"", 302, {**headers, "Location": f"{elsewhere}/cdn/{oid}/{path.replace('/', '%2F')}"})

    def cdn(self, oid: str, path: str) -> None:
        if self.token is not None:
            raise Refusal(400, "", "the token was sent to another host")
        self._part(self.hub.blobs[oid], {"ETag": f'"{oid}"'})


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>model|dataset)s/{_NAME}"
_ROUTES = [
    (("GET",), "/api/whoami-v2", _Handler.whoami),
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate_yaml),
    (("POST",), rf"{_API}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    (("POST",), rf"/(?:(?P<kind>dataset)s/)?{_NAME}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), r"/lfs/(?P<oid>\w+)", _Handler.lfs_put),
    (("POST",), rf"{_API}/commit/(?P<revision>[^/]+)", _Handler.commit),
    (("POST",), rf"{_API}/branch/(?P<branch>[^/]+)", _Handler.branch),
    (("GET",), rf"{_API}(?:/revision/(?P<revision>[^/]+))?", _Handler.info),
    (("GET",), rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", _Handler.tree),
    (("POST",), rf"{_API}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    (("GET",), rf"{_API}/refs", _Handler.refs),
    (("GET", "HEAD"), rf"/(?:(?P<kind>dataset)s/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    (("GET", "HEAD"), r"/cdn/(?P<oid>\w+)/(?P<path>.+)", _Handler.cdn),
]
