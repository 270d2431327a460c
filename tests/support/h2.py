"""HTTP/2 by hand: frames as bytes, header blocks of literals. A client, and enough of a server to be a backend."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, PROTOCOL_ERROR, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HEALTH = "/grpc.health.v1.Health/Check"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


def window(stream, n):
    return frame(WINDOW, 0, stream, struct.pack(">I", n))


def rst(stream, code=CANCEL):
    return frame(RST, 0, stream, struct.pack(">I", code))


def goaway(last, code=NO_ERROR, text=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + text)


def hpack_int(v, bits, first):
    most = (1 << bits) - 1
    if v < most:
        return bytes([first | v])
    out = bytearray([first | most])
    v -= most
    while v >= 0x80:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def literal(name, value, index=False):
    """A literal header field with a new name; index: it enters the dynamic table."""
    name = name.encode() if isinstance(name, str) else name
    value = value.encode() if isinstance(value, str) else value
    return (b"\x40" if index else b"\x00") + hpack_int(len(name), 7, 0) + name + hpack_int(len(value), 7, 0) + value


def block(headers):
    return b"".join(literal(k, v) for k, v in headers)


def grpc_headers(path=EXPORT, more=(), content_type="application/grpc"):
    head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    if content_type is not None:
        head.append(("content-type", content_type))
    return head + [("te", "trailers")] + list(more)


def grpc_message(body, compressed=0, length=None):
    return bytes([compressed]) + struct.pack(">I", len(body) if length is None else length) + body


# ---- reading header blocks: all of HPACK but the static table's values that nobody needs here ----

STATIC = [None, (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
          (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
          (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
          ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
          ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
          ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
          ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
          ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
          ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
          ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
          ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
          ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
          ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", "")]

HUFFMAN_TEXT = """
 1ff8 13 7fffd8 23 fffffe2 28 fffffe3 28 fffffe4 28 fffffe5 28 fffffe6 28 fffffe7 28 fffffe8 28 ffffea 24 3ffffffc 30
 fffffe9 28 fffffea 28 3ffffffd 30 fffffeb 28 fffffec 28 fffffed 28 fffffee 28 fffffef 28 ffffff0 28 ffffff1 28
 ffffff2 28 3ffffffe 30 ffffff3 28 ffffff4 28 ffffff5 28 ffffff6 28 ffffff7 28 ffffff8 28 ffffff9 28 ffffffa 28
 ffffffb 28 14 6 3f8 10 3f9 10 ffa 12 1ff9 13 15 6 f8 8 7fa 11 3fa 10 3fb 10 f9 8 7fb 11 fa 8 16 6 17 6 18 6 0 5 1 5
 2 5 19 6 1a 6 1b 6 1c 6 1d 6 1e 6 1f 6 5c 7 fb 8 7ffc 15 20 6 ffb 12 3fc 10 1ffa 13 21 6 5d 7 5e 7 5f 7 60 7 61 7
 62 7 63 7 64 7 65 7 66 7 67 7 68 7 69 7 6a 7 6b 7 6c 7 6d 7 6e 7 6f 7 70 7 71 7 72 7 fc 8 73 7 fd 8 1ffb 13 7fff0 19
 1ffc 13 3ffc 14 22 6 7ffd 15 3 5 23 6 4 5 24 6 5 5 25 6 26 6 27 6 6 5 74 7 75 7 28 6 29 6 2a 6 7 5 2b 6 76 7 2c 6 8 5
 9 5 2d 6 77 7 78 7 79 7 7a 7 7b 7 7ffe 15 7fc 11 3ffd 14 1ffd 13"""
_codes = HUFFMAN_TEXT.split()
HUFFMAN = {(int(_codes[2 * i], 16), int(_codes[2 * i + 1])): i for i in range(len(_codes) // 2)}


def unhuffman(p):
    out, code, bits = bytearray(), 0, 0
    for c in p:
        for i in range(7, -1, -1):
            code, bits = code << 1 | c >> i & 1, bits + 1
            if (code, bits) in HUFFMAN:
                out.append(HUFFMAN[code, bits])
                code = bits = 0
    return bytes(out)


class Decoder:
    def __init__(self):
        self.table = []

    def _int(self, p, at, bits):
        most = (1 << bits) - 1
        v = p[at] & most
        at += 1
        shift = 0
        while v >= most:
            c = p[at]
            at += 1
            v += (c & 0x7F) << shift
            shift += 7
            if c < 0x80:
                break
        return v, at

    def _text(self, p, at):
        huffman = p[at] & 0x80
        n, at = self._int(p, at, 7)
        s = p[at:at + n]
        return (unhuffman(s) if huffman else s).decode("latin-1"), at + n

    def _entry(self, i):
        return STATIC[i] if i < len(STATIC) else self.table[i - len(STATIC)]

    def decode(self, p):
        at, out = 0, []
        while at < len(p):
            c = p[at]
            if c & 0x80:
                i, at = self._int(p, at, 7)
                out.append(self._entry(i))
                continue
            if c & 0xE0 == 0x20:
                _, at = self._int(p, at, 5)
                continue
            index = c & 0x40
            i, at = self._int(p, at, 6 if index else 4)
            if i:
                name = self._entry(i)[0]
            else:
                name, at = self._text(p, at)
            value, at = self._text(p, at)
            out.append((name, value))
            if index:
                self.table.insert(0, (name, value))
        return out


class Closed(Exception):
    pass


class Answer:
    def __init__(self):
        self.headers, self.trailers, self.data = [], [], b""
        self.done, self.reset = False, None

    def header(self, name):
        for k, v in self.headers + self.trailers:
            if k == name:
                return v
        return None

    @property
    def grpc_status(self):
        s = self.header("grpc-status")
        return None if s is None else int(s)

    @property
    def message(self):
        return self.header("grpc-message") or ""

    @property
    def body(self):
        return self.data[5:]


class Client:
    """One connection. Reads only when asked to, so that a test decides what the peer sees."""

    def __init__(self, port, pairs=(), preface=True, timeout=20, open_window=True):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf, self.decoder, self.answers = b"", Decoder(), {}
        self.goaway, self.settings, self.pings, self.windows = None, {}, 0, {}
        self.next_id, self.timeout, self.open_window = 1, timeout, open_window
        if preface:
            self.send(PREFACE + settings(*pairs))

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from e

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def frame(self, deadline=None):
        """The next frame: (type, flags, stream, payload). Closed at the end; TimeoutError past the deadline."""
        deadline = time.monotonic() + self.timeout if deadline is None else deadline
        while True:
            if len(self.buf) >= 9:
                n = int.from_bytes(self.buf[:3], "big")
                if len(self.buf) >= 9 + n:
                    kind, flags = self.buf[3], self.buf[4]
                    stream = int.from_bytes(self.buf[5:9], "big") & 0x7FFFFFFF
                    payload, self.buf = self.buf[9:9 + n], self.buf[9 + n:]
                    return kind, flags, stream, payload
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame came")
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(1 << 16)
            except (ConnectionResetError, BrokenPipeError) as e:
                raise Closed(str(e)) from e
            if not more:
                raise Closed("end of the connection")
            self.buf += more

    def step(self, deadline=None):
        """Takes one frame and keeps what it says."""
        kind, flags, stream, p = self.frame(deadline)
        if kind == SETTINGS and not flags & ACK:
            for i in range(0, len(p), 6):
                k, v = struct.unpack_from(">HI", p, i)
                self.settings[k] = v
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and flags & ACK:
            self.pings += 1
        elif kind == GOAWAY:
            last, code = struct.unpack_from(">II", p)
            self.goaway = (last & 0x7FFFFFFF, code, p[8:])
        elif kind == WINDOW:
            self.windows[stream] = self.windows.get(stream, 0) + struct.unpack(">I", p)[0]
        elif kind in (HEADERS, DATA, RST):
            a = self.answers.setdefault(stream, Answer())
            if kind == HEADERS:
                fields = self.decoder.decode(p)
                if a.headers:
                    a.trailers = fields
                else:
                    a.headers = fields
            elif kind == DATA:
                a.data += p
                if p and self.open_window:
                    self.send(window(0, len(p)) + (b"" if flags & END_STREAM else window(stream, len(p))))
            else:
                a.reset = struct.unpack(">I", p)[0]
                a.done = True
            if kind != RST and flags & END_STREAM:
                a.done = True
        return kind

    def until(self, condition, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        while not condition():
            self.step(deadline)

    def until_closed(self, timeout=None):
        """Reads to the end; returns the GOAWAY that came, or None."""
        deadline = time.monotonic() + (timeout or self.timeout)
        try:
            while True:
                self.step(deadline)
        except Closed:
            return self.goaway

    def new_stream(self):
        self.next_id += 2
        return self.next_id - 2

    def open(self, headers, end=False):
        stream = self.new_stream()
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(headers)))
        return stream

    def data(self, stream, p, end=True, size=16384):
        """DATA frames within what the peer's windows allow; waits for them to open."""
        at = 0
        while True:
            part = p[at:at + size]
            if part:
                self.until(lambda: self.credit(stream) > 0 or self.answer(stream).done)
                if self.answer(stream).done:
                    return
                part = part[:self.credit(stream)]
                self.windows[stream] = self.windows.get(stream, 0) - len(part)
                self.windows[0] = self.windows.get(0, 0) - len(part)
            at += len(part)
            last = at >= len(p)
            self.send(frame(DATA, END_STREAM if end and last else 0, stream, part))
            if last:
                return

    def credit(self, stream):
        initial = self.settings.get(4, 65535)
        return min(initial + self.windows.get(stream, 0), 65535 + self.windows.get(0, 0))

    def answer(self, stream):
        return self.answers.setdefault(stream, Answer())

    def wait(self, stream, timeout=None):
        self.until(lambda: self.answer(stream).done, timeout)
        return self.answers.pop(stream)

    def call(self, body, path=EXPORT, more=(), timeout=None):
        """A unary call; its Answer."""
        stream = self.open(grpc_headers(path, more))
        self.data(stream, grpc_message(body, int(any(k == "grpc-encoding" for k, _ in more))))
        return self.wait(stream, timeout)
