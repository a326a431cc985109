"""`file:///DIRECTORY`: permissions, locks, full disks, and death at any instant."""

from __future__ import annotations

import fcntl
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from s2s_mesh.errors import KeyStoreError, StoreConflict, StoreReason
from s2s_mesh.store import KeyStore, open_store
from s2s_mesh.store import file as file_module
from s2s_mesh.testing import KeyStoreConformance
from tests.servers import run_child

ISSUER = "https://wallets.example.com"
NOBODY = 65534
PROCESSES = 16


def open_in(directory: Path, issuer: str = ISSUER, name: str = "ring") -> KeyStore:
    """Return the store in `directory`."""
    return open_store(f"file://{directory}", issuer=issuer, name=name)


def filled(directory: Path) -> Path:
    """Make a store in `directory` that holds b"first" and return the path of its document."""
    open_in(directory).swap(None, b"first")
    (document,) = directory.glob("*.ring")
    return document


class TestFileStore(KeyStoreConformance):
    """The conformance suite on files."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "not" / "yet" / "there"

    def make_store(self) -> KeyStore:
        return open_in(self.directory)


def test_files_are_private_from_the_start(tmp_path: Path) -> None:
    """Directory and files get modes 0700 and 0600 whatever the umask allows."""
    directory = tmp_path / "keys"
    before = os.umask(0)
    try:
        document = filled(directory)
    finally:
        os.umask(before)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert document.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir()} == {0}


def test_issuers_and_names_do_not_share_a_file(tmp_path: Path) -> None:
    """Each issuer and name has a file of its own, however alike and however long they are."""
    issuers = [ISSUER, *(ISSUER + end for end in ("/a", "/a-b", "/a/b", ":8443", "/" + "x" * 400))]
    places = list(itertools.product(issuers, ("ring", "deny")))
    for place in places:
        open_in(tmp_path, *place).swap(None, repr(place).encode())
    for place in places:
        assert open_in(tmp_path, *place).load() == repr(place).encode()


def test_a_directory_name_may_hold_any_character(tmp_path: Path) -> None:
    """The path in the URL is percent-decoded."""
    open_store(f"file://{tmp_path}/a%20b%3F", issuer=ISSUER).swap(None, b"first")
    assert filled(tmp_path / "other").name in {path.name for path in (tmp_path / "a b?").iterdir()}


def test_a_store_is_shared_and_shows_its_path(tmp_path: Path) -> None:
    """A file is readable to other processes, so its content has to be sealed."""
    assert open_in(tmp_path).shared
    assert str(tmp_path) in repr(open_in(tmp_path))


# --- who may read and write


def _as_it_is(document: Path) -> None:
    pass


def _group_may_read(document: Path) -> None:
    document.chmod(0o640)


def _others_may_read(document: Path) -> None:
    document.chmod(0o604)


def _others_may_write(document: Path) -> None:
    document.chmod(0o602)


def _read_only(document: Path) -> None:
    document.chmod(0o400)


def _group_may_enter(document: Path) -> None:
    document.parent.chmod(0o750)


def _group_may_write_directory(document: Path) -> None:
    document.parent.chmod(0o770)


def _others_may_write_directory(document: Path) -> None:
    document.parent.chmod(0o1777)


def _link(document: Path) -> None:
    elsewhere = document.rename(document.parent / "elsewhere")
    document.symlink_to(elsewhere)


def _dangling_link(document: Path) -> None:
    document.unlink()
    document.symlink_to(document.parent / "nowhere")


def _pipe(document: Path) -> None:
    document.unlink()
    os.mkfifo(document, 0o600)


def _directory(document: Path) -> None:
    document.unlink()
    document.mkdir(0o700)


def _foreign_file(document: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(document, NOBODY, -1)


def _foreign_directory(document: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    os.chown(document.parent, NOBODY, -1)


def _file_for_directory(document: Path) -> None:
    directory = document.parent
    shutil.rmtree(directory)
    directory.write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        (_as_it_is, None, ""),
        (_read_only, None, ""),
        (_group_may_enter, None, ""),
        (_group_may_read, StoreReason.PERMISSIONS, "has mode 0640"),
        (_others_may_read, StoreReason.PERMISSIONS, "has mode 0604"),
        (_others_may_write, StoreReason.PERMISSIONS, "has mode 0602"),
        (_group_may_write_directory, StoreReason.PERMISSIONS, "chmod 700"),
        (_others_may_write_directory, StoreReason.PERMISSIONS, "has mode 1777"),
        (_link, StoreReason.PERMISSIONS, "symbolic link"),
        (_dangling_link, StoreReason.PERMISSIONS, "symbolic link"),
        (_foreign_file, StoreReason.PERMISSIONS, f"belongs to user id {NOBODY}"),
        (_foreign_directory, StoreReason.PERMISSIONS, f"belongs to user id {NOBODY}"),
        (_pipe, StoreReason.UNREADABLE, "not a regular file"),
        (_directory, StoreReason.UNREADABLE, "not a regular file"),
        (_file_for_directory, StoreReason.UNREACHABLE, "has to be a directory"),
    ],
)
def test_a_place_that_others_can_reach_is_refused(
    tmp_path: Path, change: Callable[[Path], None], reason: StoreReason | None, says: str
) -> None:
    """A document that others could read, change or redirect is neither read nor replaced."""
    document = filled(tmp_path / "keys")
    change(document)
    store = open_in(tmp_path / "keys")
    if reason is None:
        assert store.load() == b"first"
        store.swap(b"first", b"second")
        assert store.load() == b"second"
        return
    for attempt in (store.load, lambda: store.swap(b"first", b"second")):
        with pytest.raises(KeyStoreError, match=says) as refusal:
            attempt()
        assert refusal.value.reason is reason


def read_only_directory(directory: str) -> None:
    """In a child: use a directory that this user owns and cannot write to, and a file it cannot read."""
    path = Path(directory)
    document = filled(path)
    if os.geteuid() == 0:  # permission bits do not bind root
        for each in (path, *path.iterdir()):
            os.chown(each, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    path.chmod(0o500)
    try:
        assert open_in(path).load() == b"first"
        try:
            open_in(path).swap(b"first", b"second")
        except KeyStoreError as error:
            print(error.reason.value, error)
        path.chmod(0o700)
        assert document.read_bytes() == b"first"
        document.chmod(0)
        try:
            open_in(path).load()
        except KeyStoreError as error:
            print(error.reason.value, error)
    finally:
        os.seteuid(os.getuid())


def test_a_read_only_directory_still_serves_its_document() -> None:
    """Without write access the document is read as ever; what is not allowed is refused with PERMISSIONS."""
    # not tmp_path: its parents let only their owner pass
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        said = run_child(read_only_directory, f"{directory}/keys")
    swapping, loading = said.splitlines()
    assert swapping.startswith("permissions")
    assert "cannot be written: Permission denied" in swapping
    assert loading.startswith("permissions")
    assert "cannot be read: Permission denied" in loading


def full_disk(directory: str) -> None:
    """In a child: write more than its file size limit allows."""
    path = Path(directory)
    document = filled(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        open_in(path).swap(b"first", b"x" * 100_000)
    except KeyStoreError as error:
        print(error.reason.value, error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert document.read_bytes() == b"first"
    assert not list(path.glob("*.tmp"))
    open_in(path).swap(b"first", b"x" * 100_000)


def test_a_full_disk_leaves_the_old_document(tmp_path: Path) -> None:
    """Where there is no room for the new document, the old one stays and nothing is left lying about."""
    said = run_child(full_disk, tmp_path / "keys")
    assert said.startswith("unreachable")
    assert "File too large" in said
    assert "make room" in said


# --- processes and threads


def hold_lock(directory: str) -> None:
    """In a child: hold the lock for ever."""
    (lock,) = Path(directory).glob("*.lock")
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print("locked", flush=True)
        signal.pause()


def test_a_lock_lasts_as_long_as_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A held lock makes a swap fail after a bounded wait; a dead process holds no lock."""
    filled(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", f"from tests.test_store_file import hold_lock; hold_lock({str(tmp_path)!r})"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        store = open_in(tmp_path)
        assert store.load() == b"first"
        monkeypatch.setattr(file_module, "LOCK_WAIT", 0.2)
        with pytest.raises(KeyStoreError, match=r"locked by another process for 0\.2 s") as refusal:
            store.swap(b"first", b"second")
        assert refusal.value.reason is StoreReason.UNREACHABLE
        monkeypatch.undo()
        # the swap is already waiting when the lock's owner dies
        waiting = threading.Thread(target=store.swap, args=(b"first", b"second"))
        waiting.start()
        child.kill()
        waiting.join()
    assert store.load() == b"second"


def create_at_once(directory: str) -> None:
    """In a child: let processes create the document at the same time; print how many of them did."""
    start, release = os.pipe()
    children = []
    for number in range(PROCESSES):
        child = os.fork()
        if child == 0:
            os.close(release)
            os.read(start, 1)  # returns when the last writer closes: now
            try:
                open_in(Path(directory)).swap(None, b"%d" % number)
            except StoreConflict:
                os._exit(3)
            os._exit(0)
        children.append(child)
    os.close(release)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert open_in(Path(directory)).load() == b"%d" % codes.index(0)
    print(codes.count(0), codes.count(3))


def test_one_of_many_processes_creates_the_document(tmp_path: Path) -> None:
    """Of sixteen processes that start at once on an empty place, one creates the document."""
    for attempt in range(3):
        assert run_child(create_at_once, tmp_path / str(attempt)) == f"1 {PROCESSES - 1}"


def killer(point: int) -> Callable[[FrameType, str, object], None]:
    """Return a profile function that kills the process at the event of this number, counted from 1."""
    survived = iter(range(point - 1))

    def profile(_frame: FrameType, _event: str, _argument: object) -> None:
        if next(survived, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return profile


def crash_points(directory: str, expected: str) -> None:
    """In a child: kill a swap at every event of the interpreter in turn; print how many there were.

    The events are calls and returns of every function, those of the operating system among them.
    """
    old = expected.encode() or None
    path = Path(directory)
    for point in itertools.count(1):
        shutil.rmtree(path, ignore_errors=True)
        if old is not None:
            open_in(path).swap(None, old)
        child = os.fork()
        if child == 0:
            store = open_in(path)
            sys.setprofile(killer(point))
            store.swap(old, b"new")
            sys.setprofile(None)
            os._exit(0)
        killed = os.waitpid(child, 0)[1] != 0
        held = open_in(path).load()
        assert held in (old, b"new"), (point, held)
        open_in(path).swap(held, b"next")
        assert open_in(path).load() == b"next"
        assert not list(path.glob("*.tmp")), point
        if not killed:
            assert held == b"new"
            print(point)
            return


@pytest.mark.parametrize("expected", ["", "old"])
def test_a_process_may_be_killed_at_any_instant(tmp_path: Path, expected: str) -> None:
    """Whenever a swap is cut short, the store holds the old document or the new one, and works."""
    assert int(run_child(crash_points, tmp_path / "keys", expected)) > 50
