"""Backends that behave as they are told: OTLP/HTTP over raw sockets, OTLP/gRPC over frames by hand."""
import gzip
import socket
import threading

import h2
import otlp


class Server:
    """Listens on a free port of 127.0.0.1; one thread for each connection, which runs self.serve(sock)."""

    def __init__(self, port=0):
        self.lock = threading.Lock()
        self.closed = False
        self.open = set()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open.add(sock)
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock):
        try:
            self.serve(sock)
        except (OSError, h2.Closed, IndexError):
            pass
        finally:
            with self.lock:
                self.open.discard(sock)
            sock.close()

    def close(self):
        """Down: refuses, and what is open is cut off."""
        self.closed = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for s in list(self.open):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Sink(Server):
    """A backend that remembers. `script(n, body)` says what becomes of the n-th request: None (taken), an answer, or
    one of the words HOLE (never answered), CUT (taken, and the connection is closed before the answer)."""

    HOLE, CUT = "hole", "cut"

    def __init__(self, script=None, port=0):
        self.script = script or (lambda n, body: None)
        self.requests = 0
        self.taken = []        # (trace id, span id) of each span that was taken, in order
        self.kept_requests = []
        self.heads = []
        self.cond = threading.Condition()
        super().__init__(port)

    def take(self, body):
        """One request: what the script says; its spans are remembered when they are taken."""
        with self.cond:
            n = self.requests
            self.requests += 1
            what = self.script(n, body)
            if what is None or what == self.CUT or (isinstance(what, tuple) and what[0] in (200, 0, "raw")):
                self.taken += otlp.spans_of(body)
            self.cond.notify_all()
        return what

    @property
    def unique(self):
        with self.cond:
            return set(self.taken)

    @property
    def spans(self):
        with self.cond:
            return len(self.taken)


def inflate(body, coding):
    return gzip.decompress(body) if coding == "gzip" else body


class HttpSink(Sink):
    """Answers are (status, headers, body)."""

    def serve(self, sock):
        f = sock.makefile("rb")
        while True:
            line = f.readline()
            if not line:
                return
            head = {}
            while (field := f.readline()) not in (b"\r\n", b""):
                k, v = field.decode("latin-1").split(":", 1)
                head[k.strip().lower()] = v.strip()
            body = f.read(int(head.get("content-length", 0)))
            self.heads.append(head)
            what = self.take(inflate(body, head.get("content-encoding")))
            if what == self.HOLE:
                f.read()  # until the peer gives up
                return
            if what == self.CUT:
                return
            status, headers, answer = what or (200, [("content-type", "application/x-protobuf")], b"")
            out = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers)
            sock.sendall(out.encode() + b"content-length: %d\r\n\r\n" % len(answer) + answer)


class GrpcSink(Sink):
    """Answers are (grpc-status, message, google.rpc.Status bytes or None), or ("rst", code), ("goaway", last stream id),
    ("http", status), ("raw", message bytes)."""

    def serve(self, sock):
        peer = h2.Client.__new__(h2.Client)
        peer.sock, peer.buf, peer.timeout = sock, b"", 600
        while len(peer.buf) < len(h2.PREFACE):
            p = sock.recv(4096)
            if not p:
                return
            peer.buf += p
        peer.buf = peer.buf[len(h2.PREFACE):]
        sock.sendall(h2.settings((4, 1 << 24)) + h2.window(0, 1 << 30))
        decoder, heads, bodies = h2.Decoder(), {}, {}
        while True:
            kind, flags, stream, p = peer.frame()
            if kind == h2.SETTINGS and not flags & h2.ACK:
                sock.sendall(h2.frame(h2.SETTINGS, h2.ACK, 0))
            elif kind == h2.PING and not flags & h2.ACK:
                sock.sendall(h2.frame(h2.PING, h2.ACK, 0, p))
            elif kind == h2.HEADERS:
                heads[stream] = dict(decoder.decode(p))
                bodies[stream] = b""
            elif kind == h2.DATA and stream in bodies:
                bodies[stream] += p
            elif kind == h2.RST:
                bodies.pop(stream, None)
            if kind in (h2.HEADERS, h2.DATA) and flags & h2.END_STREAM and stream in bodies:
                if not self.answer(sock, stream, heads.pop(stream), bodies.pop(stream)):
                    return

    def answer(self, sock, stream, head, body):
        self.heads.append(head)
        what = self.take(inflate(body[5:], head.get("grpc-encoding") if body[0] else None))
        if what == self.HOLE:
            return True
        if what == self.CUT:
            return False
        what = what or (0, "", None)
        if what[0] == "rst":
            sock.sendall(h2.rst(stream, what[1]))
            return True
        if what[0] == "goaway":
            sock.sendall(h2.goaway(what[1] if what[1] is not None else stream))
            return what[1] is None
        first = h2.frame(h2.HEADERS, h2.END_HEADERS, stream, h2.block([(":status", "200"), ("content-type", "application/grpc")]))
        if what[0] == "http":
            only = h2.block([(":status", str(what[1])), ("content-type", "text/html")])
            sock.sendall(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, only))
            return True
        if what[0] == "raw":
            end = h2.block([("grpc-status", "0")])
            data = h2.grpc_message(what[1])
            out = first
            for at in range(0, len(data), 16384):
                out += h2.frame(h2.DATA, 0, stream, data[at:at + 16384])
            sock.sendall(out + h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, end))
            return True
        code, text, details = what
        trailer = [("grpc-status", str(code)), ("grpc-message", text)]
        if details is not None:
            import base64
            trailer.append(("grpc-status-details-bin", base64.b64encode(details).decode().rstrip("=")))
        data = h2.frame(h2.DATA, 0, stream, h2.grpc_message(b"")) if code == 0 else b""
        sock.sendall(first + data + h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, h2.block(trailer)))
        return True


def retry_info(code, seconds, nanos=0):
    """A google.rpc.Status with RetryInfo."""
    delay = otlp.number(1, seconds) + otlp.number(2, nanos)
    info = otlp.message(1, "type.googleapis.com/google.rpc.RetryInfo") + otlp.message(2, otlp.message(1, delay))
    return otlp.number(1, code) + otlp.message(2, "later") + otlp.message(3, info)


def black_hole():
    """A listener that accepts and never says a word."""
    class Hole(Server):
        def serve(self, sock):
            while sock.recv(1 << 16):
                pass

    return Hole()
