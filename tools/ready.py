#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Wait until an application gives its first right answer.

Usage: ready.py [--timeout=S] [--every=MS] http HOST:PORT PATH TEXT
       ready.py [...] redis HOST:PORT
       ready.py [...] postgres HOST:PORT

Prints "polling" when it begins and then the time of the first right answer in seconds since
1970. Run it inside the network namespace of the application. Exit 0 answered, 1 timed out.
"""
import socket
import struct
import sys
import time


def ask(address, request, done, timeout=5.0):
    """Send, then read until done(answer) is not None; False when it ends before."""
    with socket.create_connection(address, timeout=timeout) as s:
        s.sendall(request)
        answer = b""
        while True:
            verdict = done(answer)
            if verdict is not None:
                return verdict
            got = s.recv(65536)
            if not got:
                return False
            answer += got


def http(address, path, text):
    request = "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, address[0])

    def done(answer):
        head, _, body = answer.partition(b"\r\n\r\n")
        first = head.split(b"\r\n")[0].split()
        if len(first) >= 2 and first[1] != b"200":
            return False
        return True if text.encode() in body else None
    return ask(address, request.encode(), done)


def redis(address):
    return ask(address, b"PING\r\n",
               lambda a: a == b"+PONG\r\n" if a.endswith(b"\r\n") else None)


def postgres(address):
    body = struct.pack(">I", 196608) + b"user\0postgres\0database\0postgres\0\0"

    def done(answer):
        at = 0
        while at + 5 <= len(answer):
            kind, size = answer[at:at + 1], struct.unpack(">I", answer[at + 1:at + 5])[0]
            if kind == b"E":
                return False
            if kind == b"Z":
                return True
            at += 1 + size
        return None
    return ask(address, struct.pack(">I", len(body) + 4) + body, done)


def main():
    options = {"timeout": "120", "every": "10"}
    args = sys.argv[1:]
    while args and args[0].startswith("--"):
        name, _, value = args.pop(0)[2:].partition("=")
        if name not in options or not value:
            print(__doc__, file=sys.stderr)
            return 2
        options[name] = value
    probes = {"http": (http, 4), "redis": (redis, 2), "postgres": (postgres, 2)}
    if not args or args[0] not in probes or len(args) != probes[args[0]][1]:
        print(__doc__, file=sys.stderr)
        return 2
    probe = probes[args[0]][0]
    host, _, port = args[1].rpartition(":")
    address = (host, int(port))
    end = time.monotonic() + float(options["timeout"])
    print("polling", flush=True)
    why = "no answer"
    while time.monotonic() < end:
        try:
            if probe(address, *args[2:]):
                print("%.6f" % time.time(), flush=True)
                return 0
            why = "wrong answer"
        except OSError as e:
            why = str(e)
        time.sleep(float(options["every"]) / 1000)
    print("ready.py: %s: %s" % (args[1], why), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
