"""The store on SQLite and on PostgreSQL: what is kept, what is refused, and what a killed process leaves behind."""

import hashlib
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event

from atelier_server.brand.database import migrate, open_engine
from atelier_server.brand.palette import Swatch
from atelier_server.brand.records import Reference, Space, checked_brand_id, checked_name
from atelier_server.brand.store import BrandStore
from atelier_server.brand.tables import METADATA
from atelier_server.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from tests.postgres_kit import fresh_database

SPACE, OTHER = Space("m", "1", "d"), Space("m", "2", "d")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a database that has no tables yet; empty for SQLite."""
    return "" if request.param == "sqlite" else fresh_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[BrandStore]:
    made = BrandStore(url, tmp_path)
    yield made
    made.close()


def reference(text: str, pixels: str | None = None) -> tuple[Reference, bytes]:
    data = text.encode()
    swatches = (Swatch(50.0, 1.5, -2.25, 1.0),)
    made = Reference(hashlib.sha256(data).hexdigest(), (pixels or text).ljust(64, "0"), len(data), 4, 5, swatches)
    return made, data


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "pictures").glob("*/*")}


def test_a_brand_and_its_pictures_are_kept(store: BrandStore, url: str, tmp_path: Path) -> None:
    store.create("maison", "Maison")
    one, two = reference("one"), reference("two")
    assert store.add_reference("maison", *one) is None
    assert store.add_reference("maison", *two) is None
    store.close()
    again = BrandStore(url, tmp_path)
    record = again.get("maison", SPACE)
    assert (record.name, record.reference_count, record.pending, record.revision) == ("Maison", 2, 2, 3)
    assert again.references("maison") == [one[0], two[0]]
    assert again.picture(one[0].reference_id) == b"one"
    again.close()


def test_equal_pixels_are_one_reference(store: BrandStore, tmp_path: Path) -> None:
    store.create("a", "A")
    first, recompressed = reference("first", pixels="same"), reference("again", pixels="same")
    assert store.add_reference("a", *first) is None
    assert store.add_reference("a", *first) == first[0].reference_id
    assert store.add_reference("a", *recompressed) == first[0].reference_id
    assert store.get("a", None).revision == 2
    assert files(tmp_path) == {first[0].reference_id}


def test_a_picture_of_two_brands_goes_with_the_last(store: BrandStore, tmp_path: Path) -> None:
    shared = reference("shared")
    for brand in ("a", "b"):
        store.create(brand, brand)
        store.add_reference(brand, *shared)
    store.put_embedding("a", shared[0].reference_id, SPACE, np.ones(3, np.float32))
    store.delete("a")
    assert files(tmp_path) == {shared[0].reference_id}
    store.remove_reference("b", shared[0].reference_id)
    assert files(tmp_path) == set()
    with pytest.raises(NotFound):
        store.get("a", None)


def test_embeddings_of_two_spaces_never_meet(store: BrandStore) -> None:
    store.create("a", "A")
    one, two = reference("one"), reference("two")
    for added in (one, two):
        store.add_reference("a", *added)
    store.put_embedding("a", one[0].reference_id, SPACE, np.array([1, 0], np.float32))
    store.put_embedding("a", one[0].reference_id, SPACE, np.array([9, 9], np.float32))
    store.put_embedding("a", two[0].reference_id, OTHER, np.array([0, 1, 0], np.float32))
    assert store.embedded("a", SPACE).vectors.tolist() == [[1, 0]]
    assert store.embedded("a", OTHER).reference_ids == (two[0].reference_id,)
    assert store.pending(SPACE) == [("a", two[0].reference_id)]
    assert store.get("a", OTHER).pending == 1
    store.put_embedding("a", "0" * 64, SPACE, np.array([1, 0], np.float32))  # it went meanwhile
    assert len(store.embedded("a", SPACE).reference_ids) == 1


def test_what_is_not_there_is_told(store: BrandStore, tmp_path: Path) -> None:
    made, data = reference("x")
    for call in (
        lambda: store.get("a", None),
        lambda: store.delete("a"),
        lambda: store.add_reference("a", made, data),
        lambda: store.remove_reference("a", made.reference_id),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.field == "brand_id"
    assert files(tmp_path) == set()
    store.create("a", "A")
    with pytest.raises(NotFound) as caught:
        store.remove_reference("a", made.reference_id)
    assert caught.value.field == "reference_id"
    assert store.get("a", None).revision == 1
    with pytest.raises(AlreadyExists):
        store.create("a", "A")


def test_a_brand_has_an_end(store: BrandStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("atelier_server.brand.store.MAX_REFERENCES", 1)
    store.create("a", "A")
    store.add_reference("a", *reference("one"))
    with pytest.raises(ResourceExhausted):
        store.add_reference("a", *reference("two"))
    assert len(files(tmp_path)) == 1


def test_pages_go_on_after_an_id(store: BrandStore) -> None:
    for name in ("c", "a", "b"):
        store.create(name, name)
    assert [record.brand_id for record in store.page("", 2, None)] == ["a", "b"]
    assert [record.brand_id for record in store.page("b", 2, None)] == ["c"]


def test_leftovers_go_at_the_next_start(store: BrandStore, url: str, tmp_path: Path) -> None:
    store.create("a", "A")
    kept = reference("kept")
    store.add_reference("a", *kept)
    store.close()
    orphan = tmp_path / "pictures" / "ab" / ("ab" * 32)
    orphan.parent.mkdir()
    orphan.write_bytes(b"x")
    (tmp_path / "pictures" / ".part-1").write_bytes(b"x")
    again = BrandStore(url, tmp_path)
    again.open()
    again.close()
    assert files(tmp_path) == {kept[0].reference_id}
    assert not list((tmp_path / "pictures").glob(".part-*"))


def test_a_commit_that_fails_leaves_no_row(store: BrandStore, url: str, tmp_path: Path) -> None:
    store.create("a", "A")

    @event.listens_for(store._sessions.engine, "commit")
    def refuse(connection: object) -> None:
        raise OSError("the disk is full")

    with pytest.raises(Unavailable):
        store.add_reference("a", *reference("one"))
    event.remove(store._sessions.engine, "commit", refuse)
    assert store.references("a") == []
    again = BrandStore(url, tmp_path)
    again.open()
    again.close()
    assert files(tmp_path) == set()


def test_a_picture_that_the_disk_has_no_room_for_is_told_and_leaves_nothing(store: BrandStore, tmp_path: Path) -> None:
    store.create("a", "A")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(Unavailable) as caught:
            store.add_reference("a", *reference("x" * 2**21))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.reason == "BRAND_FILES_UNAVAILABLE"
    assert store.references("a") == []
    assert not [path for path in (tmp_path / "pictures").rglob("*") if path.is_file() and path.stat().st_size]


def test_a_lost_file_comes_back_with_its_picture(store: BrandStore, tmp_path: Path) -> None:
    store.create("a", "A")
    one, data = reference("one")
    store.add_reference("a", one, data)
    next((tmp_path / "pictures").glob("*/*")).unlink()
    assert store.add_reference("a", one, data) == one.reference_id
    assert store.picture(one.reference_id) == data


def test_a_brand_is_gone_also_when_its_files_cannot_be_removed(store: BrandStore, tmp_path: Path) -> None:
    store.create("a", "A")
    store.add_reference("a", *reference("one"))
    file = next((tmp_path / "pictures").glob("*/*"))
    file.unlink()
    file.mkdir()  # which no unlink removes
    store.delete("a")
    with pytest.raises(NotFound):
        store.get("a", None)


def test_who_removes_comes_between_those_who_add_without_end(tmp_path: Path) -> None:
    store = BrandStore("", tmp_path)
    store.create("a", "A")
    store.create("b", "B")
    ends, added = threading.Event(), [0, 0, 0]

    def add(place: int) -> None:
        while not ends.is_set():
            store.add_reference("a", *reference(f"{place}-{added[place]}"))
            added[place] += 1

    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(add, place) for place in range(3)]
        try:
            pool.submit(store.delete, "b").result(20)
        finally:
            ends.set()
        for one in adding:
            one.result()
    store.close()


def test_stores_that_open_and_add_at_once_agree(url: str, tmp_path: Path) -> None:
    stores = [BrandStore(url, tmp_path) for _ in range(4)]
    together = threading.Barrier(4)

    def work(store: BrandStore) -> list[str | None]:
        together.wait()
        store.open()
        if store is stores[0]:
            store.create("a", "A")
        together.wait()
        return [store.add_reference("a", *reference(str(number))) for number in range(10)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, stores))
    assert sum(outcome is None for outcomes in results for outcome in outcomes) == 10
    assert store_ids(stores[0]) == {reference(str(number))[0].reference_id for number in range(10)} == files(tmp_path)
    assert stores[0].get("a", None).revision == 11
    for store in stores:
        store.close()


def store_ids(store: BrandStore) -> set[str]:
    return {one.reference_id for one in store.references("a")}


def test_the_migrations_make_the_tables(url: str, tmp_path: Path) -> None:
    engine = open_engine(url or f"sqlite:///{tmp_path}/brands.db")
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        if not url:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db"])
def test_other_databases_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        BrandStore(url, tmp_path)
    assert caught.value.field == "database_url"


def test_a_database_that_is_not_there_is_unavailable_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "brands.db"
    store = BrandStore(f"sqlite:///{path}", tmp_path)
    with pytest.raises(Unavailable):
        store.get("a", None)
    path.parent.mkdir()
    with pytest.raises(NotFound):
        store.get("a", None)
    store.close()


@pytest.mark.parametrize("brand_id", ["", "A", "../x", "a/b", "a" * 65, "ä", "a\n"])
def test_ids_cannot_lead_anywhere(brand_id: str) -> None:
    with pytest.raises(InvalidArgument):
        checked_brand_id(brand_id)


def test_names_are_for_people() -> None:
    assert checked_name("Maison Élan №5") == "Maison Élan №5"
    for name in ("x" * 201, "a\x00b", "a\nb"):
        with pytest.raises(InvalidArgument):
            checked_name(name)
