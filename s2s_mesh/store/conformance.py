"""What every key store has to do, as tests to inherit from: `s2s_mesh.testing.KeyStoreConformance`."""

# ruff: noqa: S101  these are tests
from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import StoreConflict

if TYPE_CHECKING:
    from . import KeyStore

LARGE = 100 * 1024  # bytes; a ring with four RSA keys takes ten thousand
WRITERS = 8  # threads


class KeyStoreConformance:
    """Inherit from this in a test module and say how a store is made; pytest finds the rest.

    class TestMyStore(KeyStoreConformance):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path

        def make_store(self):
            return MyStore(self.path)
    """

    def make_store(self) -> KeyStore:
        """Return a store on a place that is empty at the beginning of each test.

        Every store made during one test is on the same place. A store that lives in one object returns that
        object again.
        """
        raise NotImplementedError

    def test_an_absent_document_is_none(self) -> None:
        """A store that was never written holds no document."""
        with closing(self.make_store()) as store:
            assert store.load() is None

    def test_the_first_swap_creates_the_document(self) -> None:
        """Swapping absence for a document stores it."""
        with closing(self.make_store()) as store:
            store.swap(None, b"first")
            assert store.load() == b"first"

    def test_a_swap_replaces_what_was_loaded(self) -> None:
        """Swapping the held document for another stores the other."""
        with closing(self.make_store()) as store:
            store.swap(None, b"first")
            store.swap(b"first", b"second")
            assert store.load() == b"second"

    def test_creating_an_existing_document_is_a_conflict(self) -> None:
        """Who expects absence does not overwrite a document."""
        with closing(self.make_store()) as store:
            store.swap(None, b"first")
            assert _conflicts(store, None, b"second")
            assert store.load() == b"first"

    def test_an_outdated_expectation_is_a_conflict(self) -> None:
        """Who expects an older document does not overwrite a newer one."""
        with closing(self.make_store()) as store:
            store.swap(None, b"first")
            store.swap(b"first", b"second")
            assert _conflicts(store, b"first", b"third")
            assert store.load() == b"second"

    def test_expecting_a_document_where_there_is_none_is_a_conflict(self) -> None:
        """Who expects a document does not write into a store that lost it."""
        with closing(self.make_store()) as store:
            assert _conflicts(store, b"first", b"second")
            assert store.load() is None

    def test_storing_what_is_stored_is_success(self) -> None:
        """A swap whose answer was lost can be repeated, whatever it expected."""
        with closing(self.make_store()) as store:
            store.swap(None, b"first")
            store.swap(None, b"first")
            store.swap(b"outdated", b"first")
            assert store.load() == b"first"

    def test_bytes_come_back_exactly(self) -> None:
        """A document may hold any bytes: zeros, line ends, what is not UTF-8."""
        document = bytes(range(256)) + b"\r\n\n\0 "
        with closing(self.make_store()) as store:
            store.swap(None, document)
            store.swap(document, document[::-1])
            assert store.load() == document[::-1]

    def test_large_documents_come_back_exactly(self) -> None:
        """A document may be ten times as long as the largest ring."""
        document = bytes(range(256)) * (LARGE // 256)
        with closing(self.make_store()) as store:
            store.swap(None, document)
            store.swap(document, document + b"x")
            assert store.load() == document + b"x"

    def test_two_stores_on_one_place_see_each_other(self) -> None:
        """What one process writes, another one reads, and cannot overwrite unseen."""
        with closing(self.make_store()) as one, closing(self.make_store()) as other:
            one.swap(None, b"first")
            assert other.load() == b"first"
            other.swap(b"first", b"second")
            assert _conflicts(one, b"first", b"third")
            assert one.load() == b"second"

    def test_one_of_many_concurrent_writers_wins(self) -> None:
        """Of threads that swap the same document at once, one succeeds and all others get a conflict."""
        with closing(self.make_store()) as store:
            for _ in range(4):
                held = store.load()
                outcomes = _race(store, held)
                assert outcomes.count(None) == 1, f"expected one winner and conflicts, got {outcomes}"
                assert all(isinstance(each, StoreConflict) for each in outcomes if each), outcomes
                assert store.load() == b"%d after %s" % (outcomes.index(None), held or b"")

    def test_closing_twice_is_harmless_and_keeps_the_document(self) -> None:
        """A closed store can be closed again, and its place opened again."""
        store = self.make_store()
        store.swap(None, b"first")
        store.close()
        store.close()
        with closing(self.make_store()) as reopened:
            assert reopened.load() == b"first"

    def test_a_closed_store_opens_again_when_used(self) -> None:
        """A service may be stopped and started again with the same store."""
        store = self.make_store()
        store.swap(None, b"first")
        store.close()
        with closing(store):
            store.swap(b"first", b"second")
            assert store.load() == b"second"


def _conflicts(store: KeyStore, expected: bytes | None, new: bytes) -> bool:
    try:
        store.swap(expected, new)
    except StoreConflict:
        return True
    return False


def _race(store: KeyStore, held: bytes | None) -> list[BaseException | None]:
    """Swap from `WRITERS` threads at once, each its own document; return what each of them got."""
    outcomes: list[BaseException | None] = [None] * WRITERS
    barrier = threading.Barrier(WRITERS)

    def write(number: int) -> None:
        barrier.wait()
        try:
            store.swap(held, b"%d after %s" % (number, held or b""))
        except BaseException as error:  # noqa: BLE001  the caller judges it
            outcomes[number] = error

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
