"""The person at the terminal, as changes are noted under."""

import os
import pwd
import socket


def who() -> str:
    """Name the person by the system's account: the environment can be set to anything."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
