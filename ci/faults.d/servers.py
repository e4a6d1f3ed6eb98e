"""Servers that misbehave, and the traffic driver against each: every request has to fail or be answered, and none may hang.

python3 servers.py SHIFTCHECK
"""

import json
import socket
import subprocess
import sys
import threading
import time

OK = b"HTTP/1.1 200 OK\r\nx-version: v1\r\ncontent-length: 2\r\n\r\nok"


def endless_body(client):
    client.sendall(b"HTTP/1.1 200 OK\r\nx-version: v1\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def slow_headers(client):
    for byte in OK:
        client.sendall(bytes([byte]))
        time.sleep(1)


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def flood_of_interim_answers(client):
    while True:
        client.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)


def two_lengths(client):
    client.sendall(OK.replace(b"content-length: 2", b"content-length: 2\r\ncontent-length: 3"))


def old_protocol(client):
    client.sendall(b"HTTP/1.0 200 OK\r\nx-version: v1\r\n\r\nok")


def no_http(client):
    client.sendall(b"SSH-2.0-OpenSSH\r\n" * 100)


def endless_header(client):
    client.sendall(b"HTTP/1.1 200 OK\r\nx-version: ")
    while True:
        client.sendall(b"v" * 65536)


def silence(client):
    time.sleep(60)


def serve(behave):
    listener = socket.create_server(("127.0.0.1", 0))

    def each():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=one, args=(client,), daemon=True).start()

    def one(client):
        try:
            client.recv(65536)
            behave(client)
        except OSError:
            pass
        client.close()

    threading.Thread(target=each, daemon=True).start()
    return listener.getsockname()[1]


def main():
    program = sys.argv[1]
    answered = {old_protocol}
    wrong = []
    for behave in (endless_body, slow_headers, reset, flood_of_interim_answers, two_lengths, old_protocol, no_http, endless_header, silence):
        flow = {"path": "/", "requests": 3, "variants": []}
        plan = {
            "id": 1, "base": f"http://127.0.0.1:{serve(behave)}", "connections": 2, "qps": None, "keep_alive": True, "timeout_ms": 1000,
            "limit_ms": 5000, "version": {"header": "x-version"}, "pod_header": None, "flows": [flow],
        }
        start = time.monotonic()
        try:
            driver = subprocess.run([program, "workload", "drive"], input=json.dumps({"drive": plan}) + "\n", capture_output=True, text=True, timeout=15)
        except subprocess.TimeoutExpired:
            wrong.append(f"{behave.__name__} hangs")
            continue
        took = time.monotonic() - start
        lines = [json.loads(line) for line in driver.stdout.splitlines()]
        kinds = [line["kind"] for line in lines if isinstance(line, dict) and "kind" in line]
        results = [line for line in lines if isinstance(line, list)]
        versions = {kind.get("version") for kind in kinds} - {None}
        print(f"{behave.__name__}: {len(results)} results in {took:.1f} s: {[kind.get('failure') or kind.get('version') for kind in kinds]}")
        if len(results) != 3:
            wrong.append(f"{behave.__name__}: {len(results)} results, {driver.stderr[:200]}")
        if bool(versions) != (behave in answered):
            wrong.append(f"{behave.__name__}: versions {versions}")
    print("; ".join(wrong) or "9 servers: every request failed or was answered, none hung")
    return 1 if wrong else 0


sys.exit(main())
