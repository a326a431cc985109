"""The trust file on disk: what is refused, and how a running service follows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from s2s_mesh.errors import ConfigError
from s2s_mesh.trust import TrustFileError
from s2s_mesh.trust_file import MAX_TRUST_FILE, TrustFile

EDGE = "https://edge.example.com"
WALLETS = "https://wallets.example.com"
LONG_AGO = 1_600_000_000


def text(scope: str = "cards:read", before: str = "") -> str:
    return (
        f'version = 1\n{before}[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["{scope}"]\n'
    )


def write(path: Path, content: str, *, at: int = LONG_AGO) -> None:
    """Replace the file by a rename, as one should; its time is set, so that no test has to wait."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(content, encoding="utf-8")
    os.utime(new, (at, at))
    new.replace(path)


def scopes(file: TrustFile) -> set[str]:
    return set(file.current.pairs[EDGE, WALLETS].scopes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "trust.toml"
    write(path, text())
    return path


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last call, as `LEVEL message`."""
    caplog.set_level(logging.INFO, logger="s2s_mesh.trust")

    def lines() -> list[str]:
        found = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return found

    return lines


def test_load(path: Path) -> None:
    """A file is read at the first use, from a str or a Path, and only then."""
    file = TrustFile(str(path))
    assert file.path == path
    assert scopes(file) == {"cards:read"}
    assert file.current is file.current
    assert file.last_error is None
    assert TrustFile(path).load() == file.current
    assert TrustFile(path.parent / "missing").last_error is None


def test_names_are_relative_to_the_trust_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jwks_file and ca_file are found beside the trust file, wherever the process stands and a link leads."""
    elsewhere = path.parent / "data"
    elsewhere.mkdir()
    write(
        elsewhere / "real.toml",
        text(
            before=f'[issuers."{EDGE}"]\njwks_file = "a.json"\nca_file = "/etc/ca.pem"\n'
            f'[user_issuers."https://login.example.com/"]\naudiences = ["{EDGE}"]\nca_file = "own.pem"\n'
        ),
    )
    path.unlink()
    path.symlink_to(elsewhere / "real.toml")
    monkeypatch.chdir(path.parent)
    file = TrustFile("trust.toml")
    monkeypatch.chdir("/")
    edge = file.load().issuers[EDGE]
    login = file.current.user_issuers["https://login.example.com/"]
    assert login.ca_file == str(path.parent / "own.pem")
    assert edge.jwks_file == str(path.parent / "a.json")
    assert edge.ca_file == "/etc/ca.pem"
    assert edge.jwks_uri is None


def test_missing(tmp_path: Path) -> None:
    """A missing file names the path that was tried, the variable to set, and the command that writes one."""
    path = tmp_path / "trust.toml"
    file = TrustFile(path)
    with pytest.raises(ConfigError, match="does not exist") as refusal:
        file.load()
    for words in (str(path), "S2S_MESH_TRUST_FILE", "s2s-mesh init"):
        assert words in str(refusal.value)
    assert file.last_error is refusal.value
    with pytest.raises(ConfigError):
        _ = file.current


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (directory, "is a directory; expected a file such as"),
        (fifo, "is not a regular file"),
        (loop, "cannot be read: "),
        (lambda path: path.chmod(0o666), "may be written by everybody; run: chmod o-w"),
        (
            lambda path: path.write_bytes(b"#" * (MAX_TRUST_FILE + 1)),
            f"is larger than {MAX_TRUST_FILE} bytes",
        ),
    ],
)
def test_unfit(path: Path, spoil: Callable[[Path], None], words: str) -> None:
    """What is not a readable file that only its owner may change is refused with the file's name."""
    spoil(path)
    with pytest.raises(ConfigError) as refusal:
        TrustFile(path).load()
    assert f"trust file {path} {words}" in str(refusal.value)
    assert "S2S_MESH_TRUST_FILE" in str(refusal.value)


def test_a_name_that_no_file_can_have() -> None:
    """A NUL in the name, from a broken environment, is a ConfigError too."""
    with pytest.raises(ConfigError, match="cannot be read"):
        TrustFile("a\0b").load()


def test_no_utf8(path: Path) -> None:
    """Bytes that are not UTF-8 are refused with the file's name and the line."""
    path.write_bytes(b"version = 1\n# \xff\n")
    with pytest.raises(TrustFileError) as refusal:
        TrustFile(path).load()
    assert str(refusal.value) == f"{path}: line 2: found bytes that are not UTF-8; expected UTF-8"


def test_unchanged_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nothing changes, a look costs one stat."""
    file = TrustFile(path)
    file.load()
    monkeypatch.setattr(Path, "open", None)
    assert file.reload_if_changed() is None
    assert scopes(file) == {"cards:read"}


def test_touched(path: Path, logged: Callable[[], list[str]]) -> None:
    """A file with another time and the same content stays the same object: no cache is lost."""
    file = TrustFile(path)
    before = file.load()
    write(path, text(), at=LONG_AGO + 1)
    assert file.reload_if_changed() is None
    assert file.current is before
    assert logged() == []


def test_renamed_over(path: Path, logged: Callable[[], list[str]]) -> None:
    """A new file under the name is taken over, once, and its warnings are logged."""
    file = TrustFile(path)
    file.load()
    write(path, text("cards:write", before='[issuers."https://unused.example.com"]\n'), at=LONG_AGO)
    changed = file.reload_if_changed()
    assert changed is file.current
    assert scopes(file) == {"cards:write"}
    assert file.reload_if_changed() is None
    news, warning = logged()
    assert news == f"INFO trust file {path} is loaded anew: 1 pairs"
    assert warning.startswith(f'WARNING {path}: issuers."https://unused.example.com": no [[allow]] row')


def test_written_in_place(path: Path) -> None:
    """Another content of the same length and with the same time, in the same file, is noticed."""
    file = TrustFile(path)
    file.load()
    path.write_text(text("cards:rEad"), encoding="utf-8")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert file.reload_if_changed() is file.current
    assert scopes(file) == {"cards:rEad"}


def test_written_twice_under_one_time(path: Path) -> None:
    """A file that has only just been written is read again: its time may be too coarse to tell."""
    path.write_text(text(), encoding="utf-8")
    file = TrustFile(path)
    file.load()
    status = path.stat()
    path.write_text(text("cards:rEad"), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.reload_if_changed() is not None
    assert file.reload_if_changed() is None
    assert scopes(file) == {"cards:rEad"}


def test_symlink_swap(tmp_path: Path) -> None:
    """A Kubernetes volume, which swaps a link to a directory, is followed."""
    for name, scope in (("v1", "one"), ("v2", "two")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "trust.toml", text(scope))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "trust.toml").symlink_to("..data/trust.toml")
    file = TrustFile(tmp_path / "trust.toml")
    file.load()
    assert scopes(file) == {"one"}
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert file.reload_if_changed() is not None
    assert scopes(file) == {"two"}


def test_a_bad_version_changes_nothing(path: Path, logged: Callable[[], list[str]]) -> None:
    """A bad new file keeps the old one, is told once for each bad version, and is forgotten once mended."""
    file = TrustFile(path)
    before = file.load()
    write(path, text().replace("audience", "audiance"))
    assert file.reload_if_changed() is None
    assert file.current is before
    assert "unknown member" in str(file.last_error)
    (line,) = logged()
    assert line.startswith("ERROR trust file not used, the last good content stays in force: ")
    assert f"{path}: allow[0].audiance (row at line 2): found an unknown member" in line

    assert file.reload_if_changed() is None
    write(path, text().replace("audience", "audiance"), at=LONG_AGO + 1)
    assert file.reload_if_changed() is None
    assert logged() == []

    write(path, text("other").replace("audience", "audiance"))
    assert file.reload_if_changed() is None
    assert len(logged()) == 1

    write(path, text("cards:write"))
    assert file.reload_if_changed() is file.current
    assert scopes(file) == {"cards:write"}
    assert file.last_error is None
    assert [line.split()[0] for line in logged()] == ["INFO", "INFO"]


def test_taken_back(path: Path, logged: Callable[[], list[str]]) -> None:
    """Going back from a bad version to the one in force is a recovery without news."""
    file = TrustFile(path)
    before = file.load()
    write(path, "version = 2")
    assert file.reload_if_changed() is None
    write(path, text())
    assert file.reload_if_changed() is None
    assert (file.current, file.last_error) == (before, None)
    assert [line.split()[0] for line in logged()] == ["ERROR", "INFO"]
    write(path, "version = 2")
    assert file.reload_if_changed() is None
    assert [line.split()[0] for line in logged()] == ["ERROR"]


def test_vanished(path: Path, logged: Callable[[], list[str]]) -> None:
    """A file that is gone keeps the last content, is told once, and is taken up again when it is back."""
    file = TrustFile(path)
    before = file.load()
    path.unlink()
    assert file.reload_if_changed() is None
    assert file.reload_if_changed() is None
    assert file.current is before
    assert "does not exist" in str(file.last_error)
    (line,) = logged()
    assert line.startswith("ERROR ")
    write(path, text("cards:write"))
    assert file.reload_if_changed() is not None
    assert file.last_error is None
    assert scopes(file) == {"cards:write"}


def test_a_lost_permission_is_noticed(path: Path) -> None:
    """A file that everybody may write from now on is not read any more, though its content is the same."""
    file = TrustFile(path)
    before = file.load()
    path.chmod(0o646)
    assert file.reload_if_changed() is None
    assert "may be written by everybody" in str(file.last_error)
    assert file.current is before
    path.chmod(0o644)
    assert file.reload_if_changed() is None
    assert file.last_error is None


def test_a_bad_start_can_be_mended(path: Path) -> None:
    """A first load that fails leaves a file that can still be watched."""
    write(path, "version = 2")
    file = TrustFile(path)
    with pytest.raises(TrustFileError):
        file.load()
    assert file.reload_if_changed() is None
    write(path, text())
    assert file.reload_if_changed() is file.current
    assert file.last_error is None


def test_a_bad_load_keeps_the_old(path: Path) -> None:
    """An explicit load that fails raises, and what was loaded before stays."""
    file = TrustFile(path)
    before = file.load()
    write(path, "version = 2")
    with pytest.raises(TrustFileError):
        file.load()
    assert file.current is before
