"""A web server that takes reports by POST: each becomes a file with its path, its media type and its octets. While there is a file
`closed` beside them it takes nothing, and only counts who came."""

import http.server
import pathlib
import ssl
import sys

ROOM = pathlib.Path(sys.argv[1])
TAKEN = ROOM / "taken"


class Desk(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if (TAKEN / "closed").exists():
            with open(ROOM / "turned-away", "a") as file:
                file.write(self.path + "\n")
            return self.answer(503)
        head = "%s\n%s\n" % (self.path, self.headers["Content-Type"])
        draft = TAKEN / "draft"
        draft.write_bytes(head.encode() + body)
        draft.rename(TAKEN / ("%d.report" % len(list(TAKEN.glob("*.report")))))
        self.answer(201)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


TAKEN.mkdir(exist_ok=True)
server = http.server.ThreadingHTTPServer(("0.0.0.0", 443), Desk)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(ROOM / "tls" / "cert.pem", ROOM / "tls" / "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
