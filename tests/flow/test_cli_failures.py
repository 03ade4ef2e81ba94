"""The command line's failures: a line that says what is wrong, an exit code, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["worker", "--only", "reader"], {}, 2, "known: parse"),
        (["services", "set"], {}, 1, "nothing to change"),
        (["jobs"], {"PARSEWIRE_GATEWAY_PORT": "x"}, 78, "PARSEWIRE_GATEWAY_PORT='x'"),
        (["jobs"], {"PARSEWIRE_API_KEY": "pw_x", "PARSEWIRE_GATEWAY_URL": "http://127.0.0.1:1"}, 1,
         "no gateway at http://127.0.0.1:1"),
    ],
)  # fmt: skip
def test_a_failure_is_a_line_and_an_exit_code(
    arguments: list[str], environment: dict[str, str], code: int, said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "services.cli.main", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
