#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fake_registry.py - a registry on loopback that can be told to misbehave

    fake_registry.py [OPTIONS]

Starts up, prints one line of JSON ({"port": N, "storage": M, "pid": P}) and serves until its
standard input ends (with --no-stdin: until it is killed). Needs python3 and nothing else.

Options
  --dir DIR            serve an OCI layout: its blobs, and its tags in the repository --repo
                       (uploads go to memory, never to DIR)
  --repo NAME          repository of --dir                                 [test/image]
  --port N             registry port                                       [any free one]
  --log FILE           append one JSON line per request
  --auth none|basic|bearer                                                 [none]
  --user USER:PASS     for basic, and for bearer tokens                    [user:secret]
  --anonymous-token    bearer: tokens without credentials as well
  --token-life SECONDS expires_in of tokens, enforced                      [300]
  --redirect           blob GETs answer 307 to a second port with a signed URL
  --signed-life SECONDS                                                    [300]
  --latency-ms N       sleep before each answer                            [0]
  --rate BYTES         bytes per second per connection                     [unlimited]
  --ignore-range       answer 200 with everything to ranged requests
  --no-whole-put       refuse monolithic PUT of blobs with 405
  --referrers          have the referrers API of OCI 1.1 and answer pushes with OCI-Subject
  --no-stdin           do not watch standard input

Both ports answer
  GET  /_stats         counters and the list of requests as JSON
  POST /_reset         forget counters, requests and pending faults
  POST /_restart       as new: also options, blobs, manifests, tokens and signed URLs
  POST /_fault         body: JSON list of faults, appended
  POST /_config        body: JSON object; sets options by name (auth, redirect, token_life,
                       signed_life, latency_ms, rate, ignore_range, no_whole_put, user, referrers,
                       revoke: true forgets all tokens, expire_urls: true all signed URLs)
  PUT  /_blob          store the body as a blob; answers its digest
  PUT  /_manifest?ref=REF&repo=NAME   store the body as it is, whatever it is

A fault is {"match": REGEX, "method": "GET", "count": 1, "skip": 0, "on": "registry", "kind": K, ...}.
It hits the next `count` requests whose path matches, after letting `skip` pass. `on` is registry,
storage, token or any. Kinds:
  status       code, optional headers {name: value}, body
  short        send only `bytes` of the body under the full Content-Length, then close
  reset        close with RST before (bytes: 0) or within the body
  slow         `delay_ms` before the answer
  stall        headers, `bytes` of the body, then nothing until the client goes away
  no-range     200 with the whole blob
  bad-range    206 with a Content-Range that is off by one
  no-content-range  206 without that header
  extra        chunked 206 with `bytes` more than asked for
  corrupt      flip a bit of the body
  huge         chunked body without end
  headers      header lines without end
  garbage      something that is not HTTP

Each request is recorded as {"n", "t0", "t1", "port": "registry"|"storage"|"token", "method", "path",
"range", "auth": none|basic|bearer, "status", "bytes", "conn"}. Times are seconds of the monotonic
clock, t1 is when the answer was complete: two requests are dependent if one's t0 is not before the
other's t1. A storage request that carries Authorization is counted in "leaks".
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import socket
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class State:
    def __init__(self, args):
        self.args = args
        self.initial = dict(vars(args))
        self.lock = threading.Lock()
        self.requests = []
        self.faults = []
        self.counters = {}
        self.tokens = {}  # token -> (expiry, set of scopes)
        self.signed = {}  # signature -> expiry
        self.blobs = {}  # digest -> bytes
        self.manifests = {}  # (repo, ref) -> (type, bytes)
        self.uploads = {}
        self.log = open(args.log, "a", buffering=1) if args.log else None
        self.conn = 0
        self.ports = {}

    def count(self, name, by=1):
        with self.lock:
            self.counters[name] = self.counters.get(name, 0) + by

    def record(self, entry):
        with self.lock:
            entry["n"] = len(self.requests)
            self.requests.append(entry)
            if self.log:
                self.log.write(json.dumps(entry) + "\n")

    def fault(self, where, method, path):
        with self.lock:
            for f in self.faults:
                if f.get("on", "registry") not in (where, "any"):
                    continue
                if f.get("method", method) != method:
                    continue
                if not re.search(f.get("match", ""), path):
                    continue
                if f.get("skip", 0) > 0:
                    f["skip"] -= 1
                    continue
                if f.get("count", 1) <= 0:
                    continue
                f["count"] = f.get("count", 1) - 1
                return f
        return None

    def blob(self, digest):
        with self.lock:
            if digest in self.blobs:
                return self.blobs[digest]
        if self.args.dir and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            path = os.path.join(self.args.dir, "blobs", "sha256", digest[7:])
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    data = f.read()
                with self.lock:
                    self.blobs[digest] = data
                return data
        return None

    def manifest(self, repo, ref):
        with self.lock:
            if (repo, ref) in self.manifests:
                return self.manifests[(repo, ref)]
        if not self.args.dir or repo != self.args.repo:
            return None
        digest = ref
        if not ref.startswith("sha256:"):
            digest = None
            with open(os.path.join(self.args.dir, "index.json")) as f:
                index = json.load(f)
            for d in index["manifests"]:
                names = d.get("annotations", {})
                if names.get("org.opencontainers.image.ref.name") == ref:
                    digest = d["digest"]
        data = self.blob(digest) if digest else None
        if data is None:
            return None
        try:
            doc = json.loads(data)
            kind = doc.get("mediaType") or (
                MANIFEST_TYPES[1] if "manifests" in doc else MANIFEST_TYPES[0])
        except ValueError:
            return None
        return kind, data

    def put_blob(self, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with self.lock:
            self.blobs[digest] = data
        return digest


def make_handler(state, where):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "fake-registry"
        wbufsize = 0

        def setup(self):
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with state.lock:
                state.conn += 1
                self.conn = state.conn
            state.count("connections_" + where)

        def log_message(self, *_):
            pass

        # -- answers ------------------------------------------------------------------------

        def answer(self, code, body=b"", headers=None, head=False):
            self.send_response(code)
            for k, v in (headers or {}).items():
                self.send_header(k, v)
            if not (headers and "Content-Length" in headers):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not head and self.command != "HEAD":
                self.send_body(body)
            self.done(code, len(body))

        def send_body(self, body):
            if not state.args.rate:
                self.wfile.write(body)
                return
            step = max(1, state.args.rate // 50)
            for i in range(0, len(body), step):
                self.wfile.write(body[i:i + step])
                time.sleep(step / state.args.rate)

        def done(self, code, count):
            self.entry["t1"] = time.monotonic()
            self.entry["status"] = code
            self.entry["bytes"] = count
            state.record(self.entry)

        def error(self, code, name, headers=None):
            body = json.dumps({"errors": [{"code": name, "message": name.lower()}]}).encode()
            self.answer(code, body, dict(headers or {}, **{"Content-Type": "application/json"}))

        def reset(self):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def wait_gone(self):
            self.connection.settimeout(60)
            try:
                while self.connection.recv(4096):
                    pass
            except OSError:
                pass
            self.close_connection = True

        def apply_fault(self, f, body=None, headers=None, code=200):
            """Answer with a fault; False when it only delays."""
            kind = f["kind"]
            state.count("fault_" + kind)
            headers = dict(headers or {})
            n = f.get("bytes", 0)
            if kind == "slow":
                time.sleep(f.get("delay_ms", 100) / 1000)
                return False
            if kind == "status":
                self.answer(f["code"], f.get("body", "").encode(), f.get("headers", {}))
            elif kind in ("short", "reset", "stall"):
                self.done(0, n)
                if kind == "reset" and n == 0:
                    self.reset()
                    return True
                self.send_response(code)
                for k, v in headers.items():
                    self.send_header(k, v)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write((body or b"")[:n])
                if kind == "short":
                    self.close_connection = True
                elif kind == "reset":
                    time.sleep(0.05)  # let the bytes arrive before the reset discards them
                    self.reset()
                else:
                    self.wait_gone()
            elif kind in ("huge", "extra"):
                self.send_response(code)
                headers.pop("Content-Length", None)
                for k, v in headers.items():
                    self.send_header(k, v)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.done(code, -1)
                try:
                    if kind == "extra":
                        data = (body or b"") + b"x" * n
                        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
                    else:
                        junk = b"j" * 65536
                        while True:
                            self.wfile.write(b"%x\r\n%s\r\n" % (len(junk), junk))
                except OSError:
                    self.close_connection = True
            elif kind == "headers":
                self.done(0, 0)
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                try:
                    while True:
                        self.wfile.write(b"X-Filler: " + b"h" * 1000 + b"\r\n")
                except OSError:
                    self.close_connection = True
            elif kind == "garbage":
                self.done(0, 0)
                self.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
                self.close_connection = True
            else:
                raise ValueError("unknown fault " + kind)
            return True

        # -- who may ------------------------------------------------------------------------

        def credentials_ok(self):
            head = self.headers.get("Authorization", "")
            if not head.startswith("Basic "):
                return False
            try:
                return base64.b64decode(head[6:]).decode() == state.args.user
            except ValueError:
                return False

        def allowed(self, repo, push):
            auth = state.args.auth
            if auth == "none":
                return True
            if auth == "basic":
                if self.credentials_ok():
                    return True
                self.error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="fake"'})
                return False
            head = self.headers.get("Authorization", "")
            token = state.tokens.get(head[7:]) if head.startswith("Bearer ") else None
            need = {"pull", "push"} if push else {"pull"}
            if token and token[0] > time.monotonic():
                if not repo or need <= token[1].get(repo, set()):
                    return True
            scope = f',scope="repository:{repo}:{"pull,push" if push else "pull"}"' if repo else ""
            self.error(401, "UNAUTHORIZED", {
                "WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{state.ports["registry"]}'
                                    f'/_token",service="fake"{scope}'})
            return False

        def token(self, query, form):
            state.count("tokens")
            where_from = form or query
            refresh = where_from.get("refresh_token", [None])[0]
            known = self.credentials_ok() or refresh == state.args.user.split(":")[1]
            if not known and (not state.args.anonymous_token
                              or self.headers.get("Authorization")):
                self.error(401, "UNAUTHORIZED")
                return
            scopes = {}
            for text in where_from.get("scope", []):
                for one in text.split():
                    parts = one.split(":")
                    if len(parts) == 3:
                        grant = set(parts[2].split(","))
                        if not known:
                            grant &= {"pull"}
                        scopes.setdefault(parts[1], set()).update(grant)
            token = secrets.token_urlsafe(24)
            state.tokens[token] = (time.monotonic() + state.args.token_life, scopes)
            self.answer(200, json.dumps({
                "token": token, "expires_in": state.args.token_life}).encode())

        # -- blobs --------------------------------------------------------------------------

        def serve_blob(self, data, fault, extra=None):
            headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
            headers.update(extra or {})
            total = len(data)
            code, start, end = 200, 0, total - 1
            m = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            ranged = m and not state.args.ignore_range and not (
                fault and fault["kind"] == "no-range")
            if ranged:
                if m[1]:
                    start = int(m[1])
                    end = min(int(m[2]), total - 1) if m[2] else total - 1
                else:
                    start = max(0, total - int(m[2]))
                if start >= total or start > end:
                    self.answer(416, b"range", {"Content-Range": f"bytes */{total}"})
                    return
                code = 206
            body = data[start:end + 1]
            if ranged:
                off = 1 if fault and fault["kind"] == "bad-range" else 0
                if not (fault and fault["kind"] == "no-content-range"):
                    headers["Content-Range"] = f"bytes {start + off}-{end + off}/{total}"
            headers["Content-Length"] = str(len(body))
            if fault and fault["kind"] == "corrupt":
                state.count("fault_corrupt")
                body = bytes([body[0] ^ 1]) + body[1:]
            elif fault and fault["kind"] in ("no-range", "bad-range", "no-content-range"):
                state.count("fault_" + fault["kind"])
            elif fault and self.apply_fault(fault, body, headers, code):
                return
            self.answer(code, body, headers)

        def blob_get(self, repo, digest, fault):
            data = state.blob(digest)
            if data is None:
                self.error(404, "BLOB_UNKNOWN")
                return
            if state.args.redirect:
                state.count("redirects")
                sig = secrets.token_urlsafe(16)
                state.signed[sig] = time.monotonic() + state.args.signed_life
                if fault and self.apply_fault(fault, b""):
                    return
                self.answer(307, b"", {
                    "Location": f'http://127.0.0.1:{state.ports["storage"]}/store/{digest}'
                                f'?X-Amz-Expires={state.args.signed_life}&sig={sig}'})
                return
            self.serve_blob(data, fault, {"Docker-Content-Digest": digest})

        def storage(self, url, query, fault):
            if self.headers.get("Authorization"):
                state.count("leaks")
            sig = query.get("sig", [""])[0]
            if state.signed.get(sig, 0) < time.monotonic():
                self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                return
            data = state.blob(url.path.split("/")[-1])
            if data is None:
                self.answer(404)
                return
            self.serve_blob(data, fault)

        # -- uploads ------------------------------------------------------------------------

        def uploads(self, repo, query, body):
            digest = query.get("mount", [""])[0]
            if digest and state.blob(digest) is not None and query.get("from", [""])[0]:
                state.count("mounts")
                self.answer(201, b"", {"Location": f"/v2/{repo}/blobs/{digest}",
                                       "Docker-Content-Digest": digest})
                return
            ident = secrets.token_hex(8)
            state.uploads[ident] = b""
            self.answer(202, b"", {"Location": f"/v2/{repo}/blobs/uploads/{ident}?_state=a%2Fb",
                                   "Range": "0-0"})

        def upload(self, repo, ident, query, body):
            if ident not in state.uploads:
                self.error(404, "BLOB_UPLOAD_UNKNOWN")
                return
            if query.get("_state") != ["a/b"]:
                self.error(400, "QUERY_LOST")
                return
            if self.command == "DELETE":
                del state.uploads[ident]
                self.answer(204)
                return
            if self.command == "PATCH":
                want = re.fullmatch(r"(\d+)-(\d+)", self.headers.get("Content-Range", ""))
                have = len(state.uploads[ident])
                if want and (int(want[1]) != have or int(want[2]) != have + len(body) - 1):
                    self.error(416, "RANGE_INVALID")
                    return
                state.count("patches")
                state.uploads[ident] += body
                self.answer(202, b"", {
                    "Location": f"/v2/{repo}/blobs/uploads/{ident}?_state=a%2Fb",
                    "Range": f"0-{len(state.uploads[ident]) - 1}"})
                return
            if body and state.args.no_whole_put:
                self.error(405, "UNSUPPORTED")
                return
            data = state.uploads.pop(ident) + body
            digest = query.get("digest", [""])[0]
            if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
                self.error(400, "DIGEST_INVALID")
                return
            state.put_blob(data)
            state.count("blobs_put")
            self.answer(201, b"", {"Location": f"/v2/{repo}/blobs/{digest}",
                                   "Docker-Content-Digest": digest})

        # -- manifests ----------------------------------------------------------------------

        def manifest_get(self, repo, ref, fault):
            found = state.manifest(repo, ref)
            if not found:
                self.error(404, "MANIFEST_UNKNOWN")
                return
            kind, data = found
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            headers = {"Content-Type": kind, "Docker-Content-Digest": digest,
                       "Content-Length": str(len(data))}
            if fault and fault["kind"] == "corrupt":
                data = data[:-1] + bytes([data[-1] ^ 1])
            elif fault and self.apply_fault(fault, data, headers):
                return
            self.answer(200, data, headers)

        def manifest_put(self, repo, ref, body):
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            kind = self.headers.get("Content-Type", "")
            if (kind not in MANIFEST_TYPES or len(body) > 4 << 20
                    or (ref.startswith("sha256:") and ref != digest)):
                self.error(400, "MANIFEST_INVALID")
                return
            headers = {"Docker-Content-Digest": digest,
                       "Location": f"/v2/{repo}/manifests/{digest}"}
            subject = json.loads(body).get("subject")
            if subject and state.args.referrers:
                headers["OCI-Subject"] = subject["digest"]
            with state.lock:
                state.manifests[(repo, ref)] = (kind, body)
                state.manifests[(repo, digest)] = (kind, body)
            state.count("manifests_put")
            self.answer(201, b"", headers)

        def referrers(self, repo, digest, query, fault):
            if not state.args.referrers:
                self.answer(404, b"404 page not found\n", {"Content-Type": "text/plain"})
                return
            found = []
            with state.lock:
                known = sorted(state.manifests.items())
            for (name, ref), (kind, data) in known:
                doc = json.loads(data)
                if (name != repo or not ref.startswith("sha256:")
                        or doc.get("subject", {}).get("digest") != digest):
                    continue
                if doc.get("artifactType") not in query.get("artifactType",
                                                            [doc.get("artifactType")]):
                    continue
                found.append({"mediaType": kind, "digest": ref, "size": len(data),
                              "artifactType": doc.get("artifactType"),
                              "annotations": doc.get("annotations", {})})
            body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPES[1],
                               "manifests": found}).encode()
            headers = {"Content-Type": MANIFEST_TYPES[1], "Content-Length": str(len(body))}
            if fault and self.apply_fault(fault, body, headers):
                return
            self.answer(200, body, headers)

        def tags(self, repo, query):
            names = {r for (name, r) in state.manifests if name == repo and ":" not in r}
            if state.args.dir and repo == state.args.repo:
                with open(os.path.join(state.args.dir, "index.json")) as f:
                    for d in json.load(f)["manifests"]:
                        n = d.get("annotations", {}).get("org.opencontainers.image.ref.name")
                        if n:
                            names.add(n)
            names = sorted(n for n in names if n > query.get("last", [""])[0])
            page = min(int(query.get("n", ["1000"])[0]), 3)
            headers = {"Content-Type": "application/json"}
            if len(names) > page:
                names = names[:page]
                headers["Link"] = f'</v2/{repo}/tags/list?last={names[-1]}&n={page}>; rel="next"'
            self.answer(200, json.dumps({"name": repo, "tags": names}).encode(), headers)

        # -- dispatch -----------------------------------------------------------------------

        def control(self, url, body):
            if url.path == "/_stats":
                with state.lock:
                    doc = dict(state.counters, requests=list(state.requests))
                data = json.dumps(doc).encode()
            elif url.path == "/_reset":
                with state.lock:
                    state.counters.clear()
                    state.requests.clear()
                    state.faults.clear()
                data = b"{}"
            elif url.path == "/_restart":
                with state.lock:
                    for k, v in state.initial.items():
                        setattr(state.args, k, v)
                    for x in (state.counters, state.requests, state.faults, state.tokens,
                              state.signed, state.blobs, state.manifests, state.uploads):
                        x.clear()
                data = b"{}"
            elif url.path == "/_fault":
                with state.lock:
                    state.faults.extend(json.loads(body))
                data = b"{}"
            elif url.path == "/_config":
                for k, v in json.loads(body).items():
                    if k == "revoke":
                        state.tokens.clear()
                    elif k == "expire_urls":
                        state.signed.clear()
                    else:
                        setattr(state.args, k, v)
                data = b"{}"
            elif url.path == "/_manifest":
                query = urllib.parse.parse_qs(url.query)
                doc = json.loads(body)
                with state.lock:
                    state.manifests[(query["repo"][0], query["ref"][0])] = (
                        doc.get("mediaType", MANIFEST_TYPES[0]), body)
                data = b"{}"
            else:
                data = state.put_blob(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_all(self):
            url = urllib.parse.urlsplit(self.path)
            body = b""
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                while True:
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    body += self.rfile.read(size)
                    self.rfile.readline()
                    if not size:
                        break
            elif self.headers.get("Content-Length"):
                body = self.rfile.read(int(self.headers["Content-Length"]))
            if url.path.startswith("/_") and url.path != "/_token":
                self.control(url, body)
                return
            query = urllib.parse.parse_qs(url.query)
            kind = "token" if url.path == "/_token" else where
            auth = self.headers.get("Authorization", "none").split(" ")[0].lower()
            self.entry = {"t0": time.monotonic(), "port": kind, "method": self.command,
                          "path": url.path, "range": self.headers.get("Range", ""),
                          "auth": auth, "conn": self.conn}
            state.count(kind + "_requests")
            if state.args.latency_ms:
                time.sleep(state.args.latency_ms / 1000)
            fault = state.fault(kind, self.command, url.path)
            if fault and fault["kind"] in ("status", "slow", "headers", "garbage"):
                if self.apply_fault(fault):
                    return
                fault = None
            if kind == "token":
                form = urllib.parse.parse_qs(body.decode()) if self.command == "POST" else None
                self.token(query, form)
                return
            if where == "storage":
                self.storage(url, query, fault)
                return
            self.registry(url, query, body, fault)

        def registry(self, url, query, body, fault):
            if url.path in ("/v2/", "/v2"):
                if self.allowed("", False):
                    self.answer(200, b"{}")
                return
            m = re.fullmatch(
                r"/v2/(.+?)/(?:(blobs/uploads)/([^/]*)|(blobs|manifests|tags|referrers)/([^/]+))", url.path)
            if not m:
                self.error(404, "NAME_UNKNOWN")
                return
            repo, push = m[1], self.command not in ("GET", "HEAD")
            if not self.allowed(repo, push):
                return
            if m[2]:
                if fault and self.apply_fault(fault):
                    return
                if m[3]:
                    self.upload(repo, m[3], query, body)
                else:
                    self.uploads(repo, query, body)
            elif m[4] == "blobs":
                self.blob_get(repo, m[5], fault)
            elif m[4] == "referrers":
                self.referrers(repo, m[5], query, fault)
            elif m[4] == "tags":
                self.tags(repo, query)
            elif self.command == "PUT":
                if fault and self.apply_fault(fault):
                    return
                self.manifest_put(repo, m[5], body)
            else:
                self.manifest_get(repo, m[5], fault)

        def do(self):
            try:
                self.handle_all()
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        if os.environ.get("FAKE_REGISTRY_DEBUG"):
            super().handle_error(request, client_address)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--dir")
    p.add_argument("--repo", default="test/image")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--log")
    p.add_argument("--auth", choices=("none", "basic", "bearer"), default="none")
    p.add_argument("--user", default="user:secret")
    p.add_argument("--anonymous-token", action="store_true")
    p.add_argument("--token-life", type=int, default=300)
    p.add_argument("--redirect", action="store_true")
    p.add_argument("--signed-life", type=int, default=300)
    p.add_argument("--latency-ms", type=int, default=0)
    p.add_argument("--rate", type=int, default=0)
    p.add_argument("--ignore-range", action="store_true")
    p.add_argument("--no-whole-put", action="store_true")
    p.add_argument("--referrers", action="store_true")
    p.add_argument("--no-stdin", action="store_true")
    args = p.parse_args()

    state = State(args)
    registry = Server(("127.0.0.1", args.port), make_handler(state, "registry"))
    storage = Server(("127.0.0.1", 0), make_handler(state, "storage"))
    state.ports = {"registry": registry.server_port, "storage": storage.server_port}
    for s in (registry, storage):
        threading.Thread(target=s.serve_forever, daemon=True).start()
    print(json.dumps({"port": registry.server_port, "storage": storage.server_port,
                      "pid": os.getpid()}), flush=True)
    if args.no_stdin:
        threading.Event().wait()
    sys.stdin.read()


if __name__ == "__main__":
    main()
