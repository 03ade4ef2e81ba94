"""What a deployment leaves in its data directory, and how client verbs find it."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.cli import run_file
from services.cli.run_file import Running, RunningProcess, Target, find_target
from services.cli.terminal import CommandError
from services.config import Settings

HOLD = """
import sys
from pathlib import Path
from services.cli.run_file import data_directory_lock
with data_directory_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def running(data_dir: Path) -> Running:
    return Running(
        pid=7,
        gateway_url="http://127.0.0.1:9999",
        data_dir=str(data_dir),
        cluster="embedded",
        bootstrap_servers="127.0.0.1:1",
        broker_pid=8,
        topic_prefix="parsewire.",
        processes=(RunningProcess("gateway", 9, 1, "http://127.0.0.1:9999/metrics"),),
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def settings(data_dir: Path, **values: object) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir).model_copy(update=values)


def test_the_run_file_is_read_as_it_was_written_and_is_private(tmp_path: Path) -> None:
    run_file.write_run_file(running(tmp_path))
    assert run_file.read_run_file(tmp_path) == running(tmp_path)
    assert mode(tmp_path / "up.json") == 0o600
    run_file.remove_run_file(tmp_path)
    run_file.remove_run_file(tmp_path)
    assert run_file.read_run_file(tmp_path) is None


def test_a_broken_run_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"pid": "x"}')
    assert run_file.read_run_file(tmp_path) is None


def test_a_second_deployment_on_the_directory_is_refused_until_the_first_dies(
    tmp_path: Path,
) -> None:
    run_file.write_run_file(running(tmp_path))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(CommandError, match=r"already runs .*process 7, http://127.0.0.1:9999"),
            run_file.data_directory_lock(tmp_path),
        ):
            pass
        holder.kill()
    with run_file.data_directory_lock(tmp_path):
        assert mode(tmp_path / "up.lock") == 0o600


def test_two_directories_do_not_mind_each_other(tmp_path: Path) -> None:
    with (
        run_file.data_directory_lock(tmp_path / "a"),
        run_file.data_directory_lock(tmp_path / "b"),
    ):
        assert mode(tmp_path / "a") == 0o700


def test_the_target_is_what_up_left(tmp_path: Path) -> None:
    run_file.write_run_file(running(tmp_path))
    run_file.write_private(tmp_path / "api-key", b"pw_kept\n")
    assert mode(tmp_path / "api-key") == 0o600
    assert find_target(settings(tmp_path)) == Target("http://127.0.0.1:9999", "pw_kept")


def test_what_is_configured_goes_before_what_up_left(tmp_path: Path) -> None:
    run_file.write_run_file(running(tmp_path))
    run_file.write_private(tmp_path / "api-key", b"pw_kept\n")
    given = settings(tmp_path, gateway_url="https://far/", api_key=SecretStr("pw_given"))
    assert find_target(given) == Target("https://far", "pw_given")


def test_without_a_deployment_the_usual_port_is_asked(tmp_path: Path) -> None:
    given = settings(tmp_path, api_key=SecretStr("pw_given"), gateway_host="0.0.0.0")
    assert find_target(given) == Target("http://127.0.0.1:8080", "pw_given")


def test_without_a_key_it_says_where_one_comes_from(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"PARSEWIRE_API_KEY.*parsewire up"):
        find_target(settings(tmp_path))


def test_a_keys_line_feed_is_no_part_of_it(tmp_path: Path) -> None:
    given = settings(tmp_path, api_key=SecretStr("pw_given\n"))
    assert find_target(given).key == "pw_given"


@pytest.mark.parametrize("key", ["pw_a\r\nb", "pw_\u00e9", "pw_\x00"])
def test_what_cannot_be_a_key_is_sent_nowhere(tmp_path: Path, key: str) -> None:
    with pytest.raises(CommandError, match="PARSEWIRE_API_KEY is no key"):
        find_target(settings(tmp_path, api_key=SecretStr(key)))


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    path.write_text("old, and much longer")
    path.chmod(0o644)
    run_file.write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]
