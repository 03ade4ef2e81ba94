"""A child process that speaks the parser's frames and misbehaves as its document says.

The document's bytes are its orders: `answer`, `hang`, `die`, `die_midway`, `print`, `mute`.
"""

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any


def send(answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
    sys.stdout.buffer.flush()


def obey(order: str) -> None:
    page = [1, f"pid {os.getpid()}", f"pid {os.getpid()}"]
    if order == "hang":
        while True:
            time.sleep(3600)
    if order == "die":
        os._exit(9)
    send({"pages": [page], "failed": []})
    if order == "die_midway":
        os._exit(9)
    if order == "unknown_error":
        send({"error": "the moon is in the wrong house"})
    else:
        send({"done": 1})


def main() -> None:
    settings = json.loads(sys.argv[1])
    pids = Path(settings["link"]).parent / "pids"
    with pids.open("a") as file:
        file.write(f"{os.getpid()}\n")
    send({"ready": True})
    while head := sys.stdin.buffer.read(4):
        request = json.loads(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))
        obey(Path(request["path"]).read_text())


if __name__ == "__main__":
    main()
