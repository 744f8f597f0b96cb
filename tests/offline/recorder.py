"""Writes down, a line each, every name that is looked up in a network namespace and every packet
that leaves it: `recorder.py FILE`, as root, in the namespace that `namespace.sh` makes.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from pathlib import Path
from typing import TextIO

INTERFACE = "outside"
ALL_PROTOCOLS = 0x0003
NO_SUCH_NAME = b"\x81\x83"


def names(server: socket.socket, out: TextIO) -> None:
    """Answer every question with "no such name"; a question ends with an empty label."""
    while True:
        question, sender = server.recvfrom(4096)
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += length + 1
        out.write(f"name {'.'.join(labels)}\n")
        head = question[:2] + NO_SUCH_NAME + question[4:6] + bytes(6)
        server.sendto(head + question[12 : at + 5], sender)


def packets(wire: socket.socket, out: TextIO) -> None:
    """IPv4 only: the namespace has no IPv6 route to the outside."""
    while True:
        packet = wire.recv(2048)
        if packet[0] >> 4 == 4:
            header = (packet[0] & 15) * 4
            port = struct.unpack("!H", packet[header + 2 : header + 4])[0]
            out.write(f"packet {socket.inet_ntoa(packet[16:20])}:{port}\n")


def main() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS))
    wire.bind((INTERFACE, 0))
    with Path(sys.argv[1]).open("a", buffering=1) as out:
        out.write("ready\n")
        threading.Thread(target=names, args=(server, out), daemon=True).start()
        packets(wire, out)


if __name__ == "__main__":
    main()
