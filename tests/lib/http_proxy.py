# SPDX-License-Identifier: Apache-2.0
"""http_proxy.py - a forward proxy on loopback that remembers what it was asked

Proxy(port_of, user) serves CONNECT and absolute-form requests until close(). Names are never looked
up: whatever host is asked for, port_of(host, port) says which port of 127.0.0.1 is meant, or None.
With user ("USER:PASS") everybody else gets 407. seen is a list of (method, "host:port", status).
"""
import base64
import socket
import socketserver
import threading
import urllib.parse

HEAD_MAX = 65536


def read_head(sock):
    """Request line and headers, and what came behind them."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(4096)
        if not more or len(data) > HEAD_MAX:
            return None, b""
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    return head.decode("latin-1").split("\r\n"), rest


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for s, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            s.shutdown(how)
        except OSError:
            pass


class Proxy:
    def __init__(self, port_of, user=None):
        self.port_of, self.seen = port_of, []
        self.want = user and "Basic " + base64.b64encode(user.encode()).decode()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                proxy.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def refuse(self, sock, method, target, status, header=""):
        self.seen.append((method, target, status))
        sock.sendall(f"HTTP/1.1 {status} no\r\n{header}Content-Length: 0\r\n"
                     "Connection: close\r\n\r\n".encode())

    def serve(self, sock):
        head, rest = read_head(sock)
        if not head:
            return
        method, target, _ = head[0].split(" ", 2)
        headers = [h for h in head[1:] if not h.lower().startswith("proxy-")]
        auth = [h.split(":", 1)[1].strip() for h in head[1:]
                if h.lower().startswith("proxy-authorization:")]
        url = urllib.parse.urlsplit(target if method != "CONNECT" else "//" + target)
        where = f"{url.hostname}:{url.port or 80}"
        if self.want and auth != [self.want]:
            self.refuse(sock, method, where, 407, 'Proxy-Authenticate: Basic realm="proxy"\r\n')
            return
        port = self.port_of(url.hostname, url.port or 80)
        if port is None:
            self.refuse(sock, method, where, 502)
            return
        with socket.create_connection(("127.0.0.1", port)) as up:
            self.seen.append((method, where, 200))
            if method == "CONNECT":
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + rest)
            else:
                # one request per connection keeps this simple and is allowed
                path = url.path + ("?" + url.query if url.query else "")
                lines = [f"{method} {path} HTTP/1.1", *headers, "Connection: close"]
                up.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + rest)
            back = threading.Thread(target=pump, args=(up, sock), daemon=True)
            back.start()
            pump(sock, up)
            back.join()
