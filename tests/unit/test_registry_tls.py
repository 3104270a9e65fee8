#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_registry_tls.py HEADSTART - TLS, client certificates, proxies, mirrors, secrets: real servers

nginx is the TLS front of a docker-registry; certificates are made on the fly. Everything runs in a
network namespace of its own (with one address that is not loopback) if the machine allows one.
Whatever any command prints at --log-level debug is searched for every secret at the end.
"""
import base64
import contextlib
import fcntl
import hashlib
import io
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import termios
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.dont_write_bytecode = True
from http_proxy import Proxy  # noqa: E402

HEADSTART = os.path.abspath(sys.argv[1])
OUTSIDE = "192.0.2.1"  # documentation address: lives on lo of our own namespace only
INSIDE = "HEADSTART_TEST_NETNS"
USER, PASSWORD = "reader", "pw-4c1d-of-the-registry"
MIRROR_PASSWORD = "pw-77aa-of-the-mirror"
PROXY_USER, PROXY_PASSWORD = "proxyman", "pw-93be-of-the-proxy"
HELPER_SECRET = PASSWORD
HEADER_SECRET = "header-5d20-of-hosts-toml"
SIGNATURE = "sig-e81b-of-a-redirect"
SECRETS = [PASSWORD, MIRROR_PASSWORD, PROXY_PASSWORD, HEADER_SECRET, SIGNATURE, "PRIVATE KEY"]
SECRETS += [base64.b64encode(f"{u}:{p}".encode()).decode().rstrip("=") for u, p in (
    (USER, PASSWORD), (USER, MIRROR_PASSWORD), (PROXY_USER, PROXY_PASSWORD))]
FRONTS = ("good", "wrong_name", "expired", "client", "tls11", "auth", "mirror", "lacks_blobs",
          "sub_path", "mirror_auth", "to_http", "to_https", "other_ca", "headers")


def need(*programs):
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for p in programs:
        if not shutil.which(p):
            print(f"skipped: {p} is missing")
            sys.exit(77)


def own_namespace():
    """Start again inside a network and process namespace; they end with us, whatever happens."""
    if os.environ.pop(INSIDE, None):
        if all(subprocess.run(c.split(), capture_output=True).returncode == 0 for c in (
                "ip link set lo up", f"ip addr add {OUTSIDE}/32 dev lo")):
            return True
        print("no second address: plain HTTP and redirects outside loopback are not tested")
        return False
    for how in (["-r"], []):
        args = ["unshare", *how, "-n", "-p", "-f", "--mount-proc", "--kill-child"]
        probe = "ip link set lo up"
        if shutil.which("unshare") and shutil.which("ip") and subprocess.run(
                [*args, *probe.split()], capture_output=True).returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp("unshare", [*args, sys.executable, *sys.argv])
    print("no namespace: plain HTTP and redirects outside loopback are not tested")
    return False


# -- parts -------------------------------------------------------------------------------------


def blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def make_source(layout):
    """An OCI layout with two uncompressed layers, written by hand."""
    os.makedirs(f"{layout}/blobs/sha256")
    layers = []
    for n in range(2):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            info = tarfile.TarInfo(f"layer{n}/data")
            info.size = 300000
            t.addfile(info, io.BytesIO(os.urandom(info.size)))
        layers.append(blob(layout, out.getvalue()) |
                      {"mediaType": "application/vnd.oci.image.layer.v1.tar"})
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [x["digest"] for x in layers]}}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "layers": layers,
                "config": blob(layout, json.dumps(config).encode()) |
                {"mediaType": "application/vnd.oci.image.config.v1+json"}}
    entry = blob(layout, json.dumps(manifest).encode()) | {
        "mediaType": kind, "annotations": {"org.opencontainers.image.ref.name": "src"}}
    with open(f"{layout}/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
    with open(f"{layout}/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Certificates:
    """Two authorities for servers, one for clients, and what they signed."""

    def __init__(self, d):
        self.d = d
        for ca in ("ca", "ca2", "client_ca"):
            self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                         "-nodes", "-days", "2", "-subj", f"/CN=headstart test {ca}",
                         "-keyout", self.path(ca, "key"), "-out", self.path(ca, "pem"))
        names = f"IP:127.0.0.1,IP:::1,IP:{OUTSIDE},DNS:localhost,DNS:registry.test"
        self.sign("good", "ca", names)
        self.sign("wrong_name", "ca", "DNS:elsewhere.test,IP:127.0.0.99")
        self.sign("expired", "ca", names, "-not_before", "20200101000000Z", "20200102000000Z")
        self.sign("other_ca", "ca2", names)
        self.sign("user", "client_ca", "DNS:user.test")
        self.sign("stranger", "ca2", "DNS:stranger.test")
        for name in ("good", "user", "stranger"):
            with open(self.path(name, "key")) as f:
                SECRETS.append(f.read().split("\n")[1])

    def path(self, name, ext):
        return f"{self.d}/{name}.{ext}"

    def openssl(self, *args):
        p = subprocess.run(["openssl", *args], capture_output=True, text=True)
        if p.returncode:
            sys.exit(f"openssl {args[0]}: {p.stderr}")

    def sign(self, name, ca, names, *dates):
        """`openssl ca` is the one that can make a certificate of the past."""
        conf = self.path(name, "cnf")
        with open(conf, "w") as f:
            f.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.d}/{name}.db\n"
                    f"new_certs_dir={self.d}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
                    f"default_days=2\nx509_extensions=x\nunique_subject=no\n"
                    f"[p]\ncommonName=supplied\n[x]\nsubjectAltName={names}\n")
        open(f"{self.d}/{name}.db", "w").close()
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-subj", f"/CN={name}", "-keyout", self.path(name, "key"),
                     "-out", self.path(name, "csr"))
        when = ["-startdate", dates[1], "-enddate", dates[2]] if dates else []
        self.openssl("ca", "-batch", "-notext", "-config", conf, "-cert", self.path(ca, "pem"),
                     "-keyfile", self.path(ca, "key"), "-in", self.path(name, "csr"), "-out",
                     self.path(name, "pem"), *when)


class Service:
    """A process that is ready when its port answers, and ended by its own id."""

    def __init__(self, log, port, *argv):
        with open(log, "wb") as out:
            self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                      stderr=subprocess.STDOUT)
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            if self.p.poll() is not None or time.monotonic() > end:
                with open(log, errors="replace") as f:
                    sys.exit(f"{argv[0]} does not start: {f.read()[-2000:]}")
            time.sleep(0.02)

    def close(self):
        self.p.send_signal(signal.SIGTERM)
        try:
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()


def start_registry(tmp, port):
    with open(f"{tmp}/registry.yml", "w") as f:
        f.write("version: 0.1\nlog: {level: warn}\nstorage:\n  filesystem: {rootdirectory: "
                f"{tmp}/store}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
    return Service(f"{tmp}/registry.log", port, "docker-registry", "serve", f"{tmp}/registry.yml")


def start_nginx(tmp, certs, ports, registry, plain, outside):
    """One server per front; each logs who asked what, and with which Authorization."""
    for name, password in (("auth", PASSWORD), ("mirror_auth", MIRROR_PASSWORD)):
        with open(f"{tmp}/{name}.htpasswd", "w") as f:
            f.write(f"{USER}:{{PLAIN}}{password}\n")
    # the token of an upload holds the scheme and host it was started with: pass both on
    onward = (f"proxy_pass http://127.0.0.1:{registry}; proxy_set_header Host $http_host; "
              "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Authorization '';")
    # a redirect goes to the host it was asked by, so that it stays or does not stay on loopback
    blobs = "location ~ ^/v2/.*/blobs/sha256: { %s }"
    extra = {
        "client": f"ssl_client_certificate {certs.path('client_ca', 'pem')}; ssl_verify_client on;",
        # asks for a client certificate, and takes whatever comes
        "mirror": "ssl_verify_client optional_no_ca;",
        "other_ca": "ssl_verify_client optional_no_ca;",
        "good": "ssl_protocols TLSv1.3;",
        "tls11": "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;",
        "auth": f"auth_basic x; auth_basic_user_file {tmp}/auth.htpasswd;",
        "mirror_auth": f"auth_basic x; auth_basic_user_file {tmp}/mirror_auth.htpasswd;",
        "lacks_blobs": blobs % "return 404;",
        "to_http": blobs % f"return 307 http://$host:{plain}$uri?sig={SIGNATURE};" +
        f"auth_basic x; auth_basic_user_file {tmp}/auth.htpasswd;",
        "to_https": blobs % f"return 307 https://$host:{ports['other_ca']}$uri?sig={SIGNATURE};",
        "headers": f'if ($http_x_secret != "{HEADER_SECRET}") {{ return 403; }}',
    }
    servers = ""
    for name, port in (*ports.items(), ("plain", plain)):
        pem = name if name in ("wrong_name", "expired", "other_ca") else "good"
        kind = "" if name == "plain" else "ssl"
        if name in ("good", "auth", "mirror"):
            kind += " http2"
        listen = "".join(f"listen {a}:{port} {kind}; " for a in
                         ("127.0.0.1", *((OUTSIDE, "[::1]") if outside else ())))
        path = "location / { %s }" % onward
        if name == "sub_path":
            path = ("location /deep/mirror/ { rewrite ^/deep/mirror/(.*)$ /v2/$1 break; %s }"
                    "location / { return 404; }" % onward)
        servers += (f"server {{ {listen} access_log {tmp}/access.{name} seen; "
                    f"ssl_certificate {certs.path(pem, 'pem')}; "
                    f"ssl_certificate_key {certs.path(pem, 'key')}; {extra.get(name, '')} "
                    f"{path} }}\n")
    with open(f"{tmp}/nginx.conf", "w") as f:
        # root of a user namespace can be nobody else
        f.write("user root;\n" if os.geteuid() == 0 else "")
        f.write(f"daemon off; master_process off; pid {tmp}/nginx.pid;\nerror_log stderr crit;\n"
                "events { worker_connections 512; }\nhttp {\nclient_max_body_size 0;\n"
                "log_format seen '$request_method $request_uri $status "
                "[$http_authorization] $ssl_protocol <$ssl_client_s_dn>';\n" +
                "".join(f"{k}_temp_path {tmp}/nginx_{k};\n" for k in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")) + servers + "}\n")
    return Service(f"{tmp}/nginx.log", plain, "nginx", "-e", "stderr", "-p", tmp, "-c",
                   f"{tmp}/nginx.conf")


# -- the tests ---------------------------------------------------------------------------------


class Bench:
    def __init__(self, tmp, outside):
        self.tmp, self.outside, self.transcript, self.failed = tmp, outside, "", 0
        self.env = {"PATH": f"{tmp}/bin:{os.environ['PATH']}", "HOME": tmp, "LC_ALL": "C",
                    "XDG_RUNTIME_DIR": f"{tmp}/run"}
        for k, v in os.environ.items():
            if "SAN_OPTIONS" in k:
                self.env[k] = v
        self.certs = Certificates(tmp)
        ports = free_ports(len(FRONTS) + 3)
        self.ports = dict(zip(FRONTS, ports))
        self.registry, self.plain, self.closed = ports[-3:]
        self.services = []
        os.makedirs(f"{tmp}/bin")
        os.makedirs(f"{tmp}/none")

    def start(self):
        self.services.append(start_registry(self.tmp, self.registry))
        self.services.append(start_nginx(self.tmp, self.certs, self.ports, self.registry,
                                         self.plain, self.outside))

    def close(self):
        for s in self.services:
            s.close()

    def check(self, what, ok, detail=""):
        if not ok:
            self.failed += 1
        print(f"{'ok' if ok else 'FAILED'}: {what}" + ("" if ok else f": {detail}"), flush=True)

    def run(self, *args, env=None):
        """A command at debug level; (exit code, why it failed, all it printed)."""
        p = subprocess.run([HEADSTART, args[0], "--log-level", "debug", *args[1:]],
                           env=self.env | (env or {}), capture_output=True, text=True, timeout=60)
        self.transcript += p.stdout + p.stderr
        said = [x for x in p.stderr.split("\n") if x.startswith(f"headstart {args[0]}: ")]
        return p.returncode, said[-1] if said else p.stderr[-300:], p.stdout + p.stderr

    def image(self, front, host="127.0.0.1", tag="acc"):
        port = self.ports[front] if isinstance(front, str) else front
        return f"docker://{host}:{port}/test/image:{tag}"

    def inspect(self, front, *options, host="127.0.0.1", env=None, hosts=None):
        dirs = ["--hosts-dir", hosts or f"{self.tmp}/none"]
        return self.run("inspect", "--json", "--no-cache", *dirs, *options,
                        self.image(front, host), env=env)

    def works(self, what, *args, **kw):
        code, last, _ = self.inspect(*args, **kw)
        self.check(what, code == 0, f"exit {code}: {last}")

    def refused(self, what, words, *args, **kw):
        """Exit 1, and a last line that holds all of @words."""
        code, last, _ = self.inspect(*args, **kw)
        missing = [w for w in words if w.lower() not in last.lower()]
        self.check(what, code == 1 and not missing, f"exit {code}, without {missing}: {last}")

    def seen(self, front):
        """What a front was asked since the last time."""
        path = f"{self.tmp}/access.{front}"
        with open(path) as f:
            lines = f.read().splitlines()
        os.truncate(path, 0)
        return lines

    def forget(self):
        for name in (*FRONTS, "plain"):
            self.seen(name)

    def hosts(self, name, front, text, files=()):
        """A certs.d directory with one hosts.toml for the registry at @front."""
        port = self.ports[front] if isinstance(front, str) else front
        d = f"{self.tmp}/hosts_{name}/127.0.0.1:{port}"
        os.makedirs(d)
        with open(f"{d}/hosts.toml", "w") as f:
            f.write(text)
        for x in files:
            shutil.copy(f"{self.tmp}/{x}", d)
        return f"{self.tmp}/hosts_{name}"

    def url(self, front, path=""):
        return f"https://127.0.0.1:{self.ports[front]}{path}"


def push_images(b):
    make_source(f"{b.tmp}/oci")
    ca = ["--cacert", b.certs.path("ca", "pem"), "--hosts-dir", f"{b.tmp}/none", "-q"]
    code, last, _ = b.run("convert", *ca, f"oci:{b.tmp}/oci:src", b.image("good"))
    b.check("convert into a registry behind TLS", code == 0, last)
    if code:
        sys.exit(1)


def test_verification(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    b.refused("unknown CA", ["--cacert", "certificate"], "good")
    b.works("--cacert", "good", *ca)
    b.works("--cacert, localhost", "good", *ca, host="localhost")
    if b.outside:
        b.works("--cacert, an IPv6 address", "good", *ca, host="[::1]")
    b.refused("the wrong CA", ["--cacert"], "good", "--cacert", b.certs.path("ca2", "pem"))
    b.refused("name of another host", ["127.0.0.1", "name"], "wrong_name", *ca)
    b.refused("expired certificate", ["expired"], "expired", *ca)
    b.refused("--cacert without a certificate", ["PEM"], "good", "--cacert", f"{b.tmp}/good.cnf")
    b.refused("--cacert that is not there", ["nothing.pem"], "good", "--cacert",
              f"{b.tmp}/nothing.pem")
    # A certificate whose name, date or issuer is wrong is not made good by --insecure.
    for front in ("good", "wrong_name", "expired"):
        b.refused(f"--insecure against TLS ({front})", ["--insecure", "TLS"], front, "--insecure")
    b.forget()
    b.refused("--insecure with --cacert against TLS", ["--insecure", "TLS"], "auth", "--insecure",
              "--creds", f"{USER}:{PASSWORD}", *ca)
    lines = b.seen("auth")
    b.check("no password to a TLS port in the clear", lines and not any("Basic" in x for x in lines),
            lines)
    probe = subprocess.run(["openssl", "s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-CAfile",
                            b.certs.path("ca", "pem"), "-connect",
                            f"127.0.0.1:{b.ports['tls11']}"], input="", capture_output=True,
                           text=True, timeout=20)
    if "Protocol  : TLSv1.1" in probe.stdout:
        b.refused("a server of TLS 1.1 only", ["TLS"], "tls11", *ca)
    else:
        print("TLS 1.1 is not available here: its refusal is not tested")


def test_client_certificates(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    cert, key = b.certs.path("user", "pem"), b.certs.path("user", "key")
    both = f"{b.tmp}/both.pem"
    with open(both, "w") as out:
        for p in (cert, key):
            with open(p) as f:
                out.write(f.read())
    b.refused("no client certificate", ["--cert"], "client", *ca)
    b.works("--cert and --key", "client", *ca, "--cert", cert, "--key", key)
    b.works("--cert with the key in it", "client", *ca, "--cert", both)
    b.refused("a key that does not match", ["--key", "stranger.key"], "client", *ca, "--cert", cert,
              "--key", b.certs.path("stranger", "key"))
    b.refused("a client certificate of another CA", ["--cert", "stranger.pem"], "client", *ca, "--cert",
              b.certs.path("stranger", "pem"), "--key", b.certs.path("stranger", "key"))
    b.refused("a key that is not there", ["nothing.key"], "client", *ca, "--cert", cert, "--key",
              f"{b.tmp}/nothing.key")
    b.refused("a key that is no key", ["--key"], "client", *ca, "--cert", cert, "--key",
              f"{b.tmp}/user.cnf")
    b.refused("a certificate that is none", ["--cert"], "client", *ca, "--cert",
              f"{b.tmp}/user.cnf", "--key", key)
    test_encrypted_key(b)
    # Others say it by an alert, which differs between the versions of TLS.
    for version in ("-tls1_2", "-tls1_3"):
        port = free_ports(1)[0]
        b.services.append(Service(
            f"{b.tmp}/s_server", port, "openssl", "s_server", "-accept", f"127.0.0.1:{port}",
            "-cert", b.certs.path("good", "pem"), "-key", b.certs.path("good", "key"), "-CAfile",
            b.certs.path("client_ca", "pem"), "-Verify", "1", "-verify_return_error", "-www",
            "-quiet", version))
        b.refused(f"no client certificate, {version}", ["--cert"], port, *ca)
        b.refused(f"a client certificate of another CA, {version}", ["--cert", "stranger.pem"], port,
                  *ca, "--cert", b.certs.path("stranger", "pem"), "--key",
                  b.certs.path("stranger", "key"))
        b.refused(f"--insecure, {version}", ["--insecure", "TLS"], port, "--insecure")
    b.refused("--key alone", ["client certificate"], "client", *ca, "--key", key)


def test_encrypted_key(b):
    """A key with a pass phrase is refused; nobody is asked for it on the terminal."""
    b.certs.openssl("ec", "-aes256", "-passout", "pass:of-a-key", "-in", b.certs.path("user", "key"),
                    "-out", b.certs.path("encrypted", "key"))
    ours, theirs = pty.openpty()
    p = subprocess.Popen(
        [HEADSTART, "inspect", "--no-cache", "--hosts-dir", f"{b.tmp}/none", "--cacert",
         b.certs.path("ca", "pem"), "--cert", b.certs.path("user", "pem"), "--key",
         b.certs.path("encrypted", "key"), b.image("client")], env=b.env, stdin=theirs,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(theirs)
    try:
        out = p.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        p.kill()
        out = "asks on the terminal: " + os.read(ours, 1000).decode(errors="replace")
        p.communicate()
    os.close(ours)
    b.transcript += out
    b.check("an encrypted key", p.returncode == 1 and "encrypted.key" in out, out)


def test_plain_http(b):
    b.works("plain HTTP on loopback", b.plain)
    if not b.outside:
        return
    b.refused("plain HTTP outside loopback", ["--insecure", OUTSIDE], b.plain, host=OUTSIDE)
    b.works("--insecure", b.plain, "--insecure", host=OUTSIDE)
    b.refused("unknown CA outside loopback", ["--cacert"], "good", host=OUTSIDE)
    b.works("--cacert outside loopback", "good", "--cacert", b.certs.path("ca", "pem"), host=OUTSIDE)
    code, last, _ = b.run("convert", "-q", "--no-reuse", "--hosts-dir", f"{b.tmp}/none",
                          f"oci:{b.tmp}/oci:src", b.image(b.plain, OUTSIDE, "plain"))
    b.check("push over plain HTTP outside loopback",
            code == 1 and "--insecure" in last and OUTSIDE in last, last)


def test_redirects(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    creds = ["--creds", f"{USER}:{PASSWORD}"]
    b.refused("redirect to https of an unknown CA", ["redirect", "--cacert"], "to_https", *ca)
    both = f"{b.tmp}/both_ca.pem"
    with open(both, "w") as out:
        for name in ("ca", "ca2"):
            with open(b.certs.path(name, "pem")) as f:
                out.write(f.read())
    cert = ["--cert", b.certs.path("user", "pem"), "--key", b.certs.path("user", "key")]
    b.forget()
    b.works("redirect to https of a CA in --cacert", "to_https", "--cacert", both, *cert)
    lines = b.seen("other_ca")
    b.check("  no client certificate goes along", lines and all("<->" in x for x in lines), lines)
    b.forget()
    b.works("redirect to plain HTTP, all on loopback", "to_http", *ca, *creds)
    lines = b.seen("plain")
    b.check("no password at the storage", lines and not any("Basic" in x for x in lines), lines)
    if not b.outside:
        return
    b.refused("redirect from https to plain HTTP", ["redirect", "plain HTTP"], "to_http", *ca,
              *creds, host=OUTSIDE)
    lines = b.seen("plain")
    b.check("plain storage was not asked", not lines, lines)


def test_proxies(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    b.forget()
    proxy = Proxy(lambda host, port: port)
    at = f"http://127.0.0.1:{proxy.port}"
    good, where = b.ports["good"], "registry.test"
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        proxy.seen.clear()
        b.works(f"TLS through {name}", "good", *ca, host=where, env={name: at})
        b.check("  by CONNECT", proxy.seen and
                set(proxy.seen) == {("CONNECT", f"{where}:{good}", 200)}, proxy.seen)
    proxy.seen.clear()
    b.works("plain HTTP through http_proxy", b.plain, "--insecure", host=where,
            env={"http_proxy": at})
    b.check("  by GET", proxy.seen and {x[0] for x in proxy.seen} <= {"GET", "HEAD"}, proxy.seen)
    proxy.seen.clear()
    for name in ("127.0.0.1", "localhost"):
        b.works(f"{name} is never asked for by proxy", "good", *ca, host=name,
                env={"https_proxy": at, "http_proxy": at})
    if b.outside:
        for no in ("NO_PROXY", "no_proxy"):
            b.works(f"{no}", "good", *ca, host=OUTSIDE, env={"https_proxy": at, no: OUTSIDE})
    b.check("nothing went through the proxy", not proxy.seen, proxy.seen)
    b.refused("unknown CA through a proxy", ["--cacert"], "good", host=where,
              env={"https_proxy": at})
    proxy.close()

    b.refused("no proxy at its address", ["proxy"], "good", *ca, host=where,
              env={"https_proxy": f"http://127.0.0.1:{b.closed}"})
    b.refused("a proxy behind TLS of an unknown CA", ["proxy", "certificate"], "good", *ca,
              host=where, env={"https_proxy": f"https://127.0.0.1:{good}"})
    proxy = Proxy(lambda host, port: port, f"{PROXY_USER}:{PROXY_PASSWORD}")
    at = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:{proxy.port}"
    b.works("a proxy with a password", "good", *ca, host=where, env={"https_proxy": at})
    b.works("a proxy with a password, plain", b.plain, "--insecure", host=where,
            env={"http_proxy": at})
    at = at.replace(PROXY_PASSWORD, PROXY_PASSWORD + "-old")
    b.refused("a wrong password for the proxy", ["proxy", "407"], "good", *ca, host=where,
              env={"https_proxy": at})
    b.refused("a wrong password for the proxy, plain", ["proxy", "407"], b.plain, "--insecure",
              host=where, env={"http_proxy": at})
    proxy.close()
    proxy = Proxy(lambda host, port: None)
    b.refused("a proxy that cannot reach the registry", ["proxy", "502"], "good", *ca, host=where,
              env={"https_proxy": f"http://127.0.0.1:{proxy.port}"})
    proxy.close()


def test_mirrors(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    pull = 'capabilities = ["pull", "resolve"]\n'
    b.forget()
    d = b.hosts("first", "good", f'[host."{b.url("mirror")}"]\n{pull}ca = "ca.pem"\n', ["ca.pem"])
    b.works("a mirror with a CA of its own", "good", "--cert", b.certs.path("user", "pem"),
            "--key", b.certs.path("user", "key"), hosts=d)
    mirror, origin = b.seen("mirror"), b.seen("good")
    b.check("  origin is not asked", mirror and not origin, origin)
    b.check("  the registry's client certificate is not for the mirror",
            all("<->" in x for x in mirror), mirror)
    b.check("  the mirror hears whose image it is",
            all(f"ns=127.0.0.1" in x for x in mirror), mirror)

    code, last, _ = b.run("convert", "-q", "--no-reuse", *ca, "--hosts-dir", d,
                          f"oci:{b.tmp}/oci:src", b.image("good", tag="pushed"))
    b.check("push with a mirror that may only pull", code == 0, last)
    wrote = [x for x in b.seen("mirror") if x.split()[0] in ("POST", "PUT", "PATCH", "DELETE")]
    b.check("  nothing is pushed to the mirror", not wrote, wrote)
    b.check("  all is pushed to the registry",
            any(x.startswith("PUT ") and "/manifests/" in x for x in b.seen("good")))

    d = b.hosts("down", "good", f'[host."https://127.0.0.1:{b.closed}"]\n{pull}')
    b.works("the mirror is down", "good", *ca, hosts=d)
    b.check("  origin is asked", b.seen("good"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        d = b.hosts("hangs", "good", f'[host."https://127.0.0.1:{s.getsockname()[1]}"]\n{pull}')
        began = time.monotonic()
        b.works("the mirror hangs", "good", *ca, hosts=d)
        b.check("  origin is asked soon", b.seen("good") and time.monotonic() - began < 15)
    d = b.hosts("pull_only", "good", f'[host."{b.url("mirror")}"]\ncapabilities = ["pull"]\n')
    b.forget()
    b.works("a mirror that may not resolve tags", "good", *ca, hosts=d)
    mirror = b.seen("mirror")
    b.check("  has blobs only", mirror and all("/acc?" not in x for x in mirror) and
            any("/manifests/acc " in x for x in b.seen("good")), mirror)
    d = b.hosts("lacks", "good", f'[host."{b.url("lacks_blobs")}"]\n{pull}ca = "ca.pem"\n',
                ["ca.pem"])
    b.works("the mirror lacks the blobs", "good", *ca, hosts=d)
    lines = b.seen("good")
    b.check("  blobs come from origin, manifests do not",
            lines and all("/blobs/" in x for x in lines), lines)

    d = b.hosts("unknown_ca", "good", f'[host."{b.url("other_ca")}"]\n{pull}')
    b.works("the mirror's CA is unknown: origin", "good", *ca, hosts=d)
    b.check("  the mirror answered nothing", not b.seen("other_ca"))
    d = b.hosts("client", "good", f'[host."{b.url("client")}"]\n{pull}ca = "ca.pem"\n'
                'client = [["user.pem", "user.key"]]\n', ["ca.pem", "user.pem", "user.key"])
    b.forget()
    b.works("a mirror that wants a client certificate", "good", hosts=d)
    b.check("  the mirror served it", b.seen("client") and not b.seen("good"))

    d = b.hosts("skip", "good", f'[host."{b.url("wrong_name")}"]\n{pull}skip_verify = true\n')
    code, last, out = b.inspect("good", hosts=d)
    b.check("skip_verify", code == 0 and b.seen("wrong_name"), last)
    b.check("  is warned of", "turns off the check of TLS certificates" in out, out)
    d = b.hosts("skip_down", "good",
                f'[host."https://127.0.0.1:{b.closed}"]\n{pull}skip_verify = true\n')
    b.refused("skip_verify of a mirror is not one of origin", ["--cacert"], "good", hosts=d)
    d = b.hosts("skip_hop", "to_https", f'[host."{b.url("to_https")}"]\nskip_verify = true\n')
    b.refused("skip_verify does not go along with a redirect", ["redirect", "certificate"],
              "to_https", hosts=d)

    d = b.hosts("path", "good", f'[host."{b.url("sub_path", "/deep/mirror")}"]\n{pull}'
                'ca = "ca.pem"\noverride_path = true\n', ["ca.pem"])
    b.forget()
    b.works("override_path", "good", hosts=d)
    b.check("  the mirror served it", b.seen("sub_path") and not b.seen("good"))
    d = b.hosts("server", b.closed, f'server = "{b.url("good")}"\nca = "ca.pem"\n', ["ca.pem"])
    b.works("server = another address", b.closed, hosts=d)
    b.check("  which was asked", b.seen("good"))
    d = b.hosts("header", "good", f'[host."{b.url("headers")}"]\n{pull}ca = "ca.pem"\n'
                f'[host."{b.url("headers")}".header]\nX-Secret = "{HEADER_SECRET}"\n', ["ca.pem"])
    b.works("header of a mirror", "good", hosts=d)
    b.check("  the mirror served it", b.seen("headers") and not b.seen("good"))
    d = f"{b.tmp}/hosts_docker"
    os.makedirs(f"{d}/127.0.0.1:{b.ports['client']}")
    for old, new in (("ca.pem", "ca.crt"), ("user.pem", "user.cert"), ("user.key", "user.key")):
        shutil.copy(f"{b.tmp}/{old}", f"{d}/127.0.0.1:{b.ports['client']}/{new}")
    b.works("certificates in docker's layout", "client", hosts=d)
    d = b.hosts("bad_ca", "good", 'ca = "nothing.pem"\n')
    b.refused("a CA file that is not there", ["nothing.pem"], "good", hosts=d)
    d = b.hosts("no_pem", "good", 'ca = "good.cnf"\n', ["good.cnf"])
    b.refused("a CA file that holds none", ["good.cnf"], "good", hosts=d)
    d = b.hosts("no_key", "client", 'ca = "ca.pem"\nclient = [["user.pem", "gone.key"]]\n',
                ["ca.pem", "user.pem"])
    b.refused("a client key that is not there", ["gone.key"], "client", hosts=d)


def test_mirror_credentials(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    creds = f"{b.tmp}/creds"
    with open(creds, "w") as f:
        f.write(f"{USER}:{PASSWORD}\n")
    d = b.hosts("auth", "auth", f'[host."{b.url("mirror_auth")}"]\nca = "ca.pem"\n'
                'capabilities = ["pull", "resolve"]\n', ["ca.pem"])

    def auth_file(name, *entries):
        path = f"{b.tmp}/{name}.json"
        with open(path, "w") as f:
            json.dump({"auths": {f"127.0.0.1:{b.ports[front]}": {
                "auth": base64.b64encode(f"{USER}:{pw}".encode()).decode()}
                for front, pw in entries}}, f)
        return path

    for what, options in (("--creds", ["--creds", f"@{creds}"]),
                          ("an auth file", ["--authfile", auth_file("origin", ("auth", PASSWORD))])):
        b.forget()
        b.works(f"a mirror that wants other credentials than {what} has", "auth", *ca, *options,
                hosts=d)
        lines = b.seen("mirror_auth")
        b.check("  they are not sent to the mirror",
                lines and all("[-]" in x for x in lines), lines)
        b.check("  and open the registry", any("200 [Basic" in x for x in b.seen("auth")))
    fake = subprocess.Popen([sys.executable, os.path.join(HERE, "..", "lib", "fake_registry.py"),
                             "--auth", "bearer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)
    port = json.loads(fake.stdout.readline())["port"]
    token = b.hosts("token", "auth", f'[host."http://127.0.0.1:{port}"]\n')
    b.works("a mirror whose token server refuses", "auth", *ca, "--creds", f"@{creds}",
            hosts=token)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stats") as r:
        stats = json.loads(r.read())
    b.check("  and is sent no password", stats.get("token_requests") and
            all(x["auth"] == "none" for x in stats["requests"]), stats)
    fake.stdin.close()
    fake.wait()
    both = auth_file("both", ("auth", PASSWORD), ("mirror_auth", MIRROR_PASSWORD))
    b.forget()
    b.works("credentials of the mirror itself", "auth", *ca, "--authfile", both, hosts=d)
    b.check("  the mirror served it",
            any("200 [Basic" in x for x in b.seen("mirror_auth")) and not b.seen("auth"))


def test_secrets(b):
    ca = ["--cacert", b.certs.path("ca", "pem")]
    port = b.ports["auth"]
    creds, witness = f"{b.tmp}/creds", f"{b.tmp}/witness"
    b.refused("no credentials", ["401", "--creds"], "auth", *ca)
    b.refused("a wrong password", ["401", "--creds"], "auth", *ca, "--creds",
              f"{USER}:{PASSWORD}-old")
    b.refused("a file of no credentials", ["USER:PASS"], "auth", *ca, "--creds",
              f"@{b.certs.path('user', 'key')}")
    b.works("--creds @FILE", "auth", *ca, "--creds", f"@{creds}")
    # The helper is given a host on its input and sees what everybody can see of its caller.
    with open(f"{b.tmp}/bin/docker-credential-witness", "w") as f:
        f.write("#!/bin/sh\nread -r host\necho \"$0 $* for $host\" >>\"$WITNESS\"\n"
                "for p in $PPID $$; do tr '\\0' ' ' </proc/$p/cmdline; echo; done >>\"$WITNESS\"\n"
                "env >>\"$WITNESS\"\n"
                f"printf '{{\"ServerURL\":\"%s\",\"Username\":\"{USER}\",\"Secret\":\"'\"$(cat "
                f"{b.tmp}/secret)\"'\"}}' \"$host\"\n")
    os.chmod(f"{b.tmp}/bin/docker-credential-witness", 0o755)
    with open(f"{b.tmp}/secret", "w") as f:
        f.write(HELPER_SECRET)
    helper = f"{b.tmp}/helper.json"
    with open(helper, "w") as f:
        json.dump({"credHelpers": {f"127.0.0.1:{port}": "witness"}}, f)
    b.works("a credential helper", "auth", *ca, "--authfile", helper, env={"WITNESS": witness})
    with open(witness) as f:
        text = f.read()
    b.check("  is told the host on its input", f" get for 127.0.0.1:{port}" in text, text)
    b.check("  and nothing secret by arguments or environment",
            not any(s in text for s in SECRETS), text)
    with open(f"{b.tmp}/bin/docker-credential-witness", "w") as f:
        f.write(f"#!/bin/sh\necho '{PASSWORD}'\necho '{PASSWORD}' >&2\nexit 3\n")
    b.refused("a helper that fails", ["docker-credential-witness", "3"], "auth", *ca, "--authfile",
              helper)
    with open(helper, "w") as f:
        f.write(f'{{"auths": {{"127.0.0.1:{port}": {{"auth": "{PASSWORD}"}}}}}}')
    b.refused("a broken auth file", ["helper.json"], "auth", *ca, "--authfile", helper)

    # The same for a push and a whole dump: everything that sends a password.
    code, last, _ = b.run("convert", "-q", "--no-reuse", *ca, "--creds", f"@{creds}", "--hosts-dir",
                          f"{b.tmp}/none", f"oci:{b.tmp}/oci:src", b.image("auth", tag="again"))
    b.check("push with a password", code == 0, last)
    code, last, _ = b.run("dump", "-q", "--no-cache", *ca, "--creds", f"@{creds}", "--hosts-dir",
                          f"{b.tmp}/none", b.image("auth"), f"{b.tmp}/disk")
    b.check("dump with a password", code == 0 and os.path.getsize(f"{b.tmp}/disk"), last)
    argv = [HEADSTART, "inspect", "--no-cache", "--log-level", "debug", "--hosts-dir",
            f"{b.tmp}/none", "--insecure", "--creds", f"{USER}:{PASSWORD}", "docker://127.0.0.1:%d/a:b"]
    test_command_line(b, argv)


def test_command_line(b, argv):
    """--creds USER:PASS is what others see of a process only until it has started."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        argv[-1] %= s.getsockname()[1]
        p = subprocess.Popen(argv, env=b.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True)
        conn, _ = s.accept()  # the request is under way, so the options have been read
        with open(f"/proc/{p.pid}/cmdline") as f:
            line = f.read()
        conn.close()
        s.close()
        b.transcript += p.communicate(timeout=60)[0]
    b.check("--creds is not left on the command line", PASSWORD not in line and "inspect" in line,
            line)


def main():
    need("nginx", "openssl", "docker-registry")
    outside = own_namespace()
    tests = (test_verification, test_client_certificates, test_plain_http, test_redirects,
             test_proxies, test_mirrors, test_mirror_credentials, test_secrets)
    with tempfile.TemporaryDirectory() as tmp:
        b = Bench(tmp, outside)
        try:
            b.start()
            push_images(b)
            for t in tests:
                began = time.monotonic()
                t(b)
                print(f"-- {t.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        finally:
            b.close()
        for s in SECRETS:
            at = b.transcript.find(s)
            b.check("a secret is in no output", at < 0,
                    b.transcript[max(0, at - 200):at + 20] if at >= 0 else "")
        b.check("debug output was there to search", "level=debug" in b.transcript or
                len(b.transcript) > 10000)
    return 1 if b.failed else 0


if __name__ == "__main__":
    sys.exit(main())
