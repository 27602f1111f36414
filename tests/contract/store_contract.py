"""What every store does: subclass `StoreContract` in a test module, with a `store` fixture over `KINDS_IN_TEST`."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Literal

import pytest

from quantfleet_coordinator.store.base import Store
from quantfleet_domain.errors import ErrorCode, QuantfleetError


@dataclass(frozen=True)
class BoltRecord:
    KEY: ClassVar[tuple[str, ...]] = ("bin", "number")
    note: str
    bin: str
    number: int
    weight: float = 0.5
    zinc: bool = False
    photo: bytes = b""
    head: Literal["hex", "torx"] = "hex"


@dataclass(frozen=True)
class LabelRecord:
    KEY: ClassVar[tuple[str, ...]] = ("text",)
    text: str


@dataclass(frozen=True)
class StrangerRecord:
    KEY: ClassVar[tuple[str, ...]] = ("id",)
    id: str


class Note(StrEnum):
    BLUE = "blue"


KINDS_IN_TEST = (BoltRecord, LabelRecord)
M6 = BoltRecord("m6", "a", 6)
M8 = BoltRecord("m8", "a", 8, weight=0.1, zinc=True, photo=b"\x00\xff\x00", head="torx")


class StoreContract:
    def test_what_was_put_is_read_back_equal_and_of_the_same_types(self, store: Store) -> None:
        store.commit([M8, LabelRecord("x")])
        (read,) = store.all(BoltRecord)
        assert read == M8
        assert [type(value) for value in vars(read).values()] == [type(value) for value in vars(M8).values()]
        assert store.all(LabelRecord) == [LabelRecord("x")]

    def test_a_put_of_the_same_key_replaces(self, store: Store) -> None:
        store.commit([M6])
        store.commit([replace(M6, note="blue")])
        store.commit([LabelRecord("x"), LabelRecord("x")])
        store.commit([LabelRecord("x")])
        assert store.all(BoltRecord) == [replace(M6, note="blue")]
        assert store.all(LabelRecord) == [LabelRecord("x")]

    def test_the_last_put_of_a_key_in_one_commit_wins(self, store: Store) -> None:
        store.commit([M6, M8, replace(M6, note="blue")])
        assert store.get(BoltRecord, "a", 6) == replace(M6, note="blue")

    def test_records_come_in_the_order_of_the_key(self, store: Store) -> None:
        keys = [("b", 1), ("a", 10), ("a", 9), ("", 5), ("Z", 0), ("é", -3), ("\U0001f529", 0), ("\uffff", 0)]
        store.commit([BoltRecord("", name, number) for name, number in keys])
        assert [(bolt.bin, bolt.number) for bolt in store.all(BoltRecord)] == sorted(keys)

    def test_get_returns_none_for_what_is_not_there(self, store: Store) -> None:
        store.commit([M6])
        assert store.get(BoltRecord, "a", 7) is None
        assert store.get(BoltRecord, "a", 6) == M6

    def test_where_selects_by_equality_in_key_order(self, store: Store) -> None:
        store.commit([M8, M6, BoltRecord("m6", "b", 1, head="torx")])
        assert store.where(BoltRecord, bin="a") == [M6, M8]
        assert [bolt.bin for bolt in store.where(BoltRecord, note="m6")] == ["a", "b"]
        assert store.where(BoltRecord, bin="a", zinc=True) == [M8]
        assert store.where(BoltRecord, head="torx", photo=b"\x00\xff\x00") == [M8]
        store.commit([replace(M6, note="blue")])
        assert store.where(BoltRecord, note=Note.BLUE) == [replace(M6, note="blue")]
        assert store.where(BoltRecord, bin="c") == []

    def test_deletes_remove_and_forgive_what_is_not_there(self, store: Store) -> None:
        store.commit([M6, M8])
        store.commit([], [(BoltRecord, ("a", 6)), (BoltRecord, ("nowhere", 0))])
        assert store.all(BoltRecord) == [M8]

    def test_deletes_come_before_puts(self, store: Store) -> None:
        store.commit([M6])
        store.commit([replace(M6, note="new")], [(BoltRecord, ("a", 6))])
        assert store.all(BoltRecord) == [replace(M6, note="new")]

    def test_a_commit_that_fails_midway_leaves_nothing(self, store: Store) -> None:
        store.commit([M6])
        with pytest.raises(QuantfleetError) as raised:
            store.commit([M8, replace(M6, note="changed"), StrangerRecord("s")], [(BoltRecord, ("a", 6))])
        assert raised.value.code is ErrorCode.STORE_FAILED
        assert "StrangerRecord" in raised.value.what
        assert store.all(BoltRecord) == [M6]
        store.commit([M8])
        assert store.all(BoltRecord) == [M6, M8]

    @pytest.mark.parametrize(
        "bad",
        [
            replace(M6, note="a\0b"),
            replace(M6, note="\ud800"),
            replace(M6, number=2**63),
            replace(M6, weight=float("nan")),
            replace(M6, note=None),  # type: ignore[arg-type]  # the wrong type is the point
            replace(M6, photo="text"),  # type: ignore[arg-type]  # the wrong type is the point
            replace(M6, zinc=1),  # type: ignore[arg-type]  # the wrong type is the point
        ],
        ids=["text-with-nul", "lone-surrogate", "65-bits", "nan", "none", "text-for-bytes", "int-for-bool"],
    )
    def test_a_value_that_no_store_can_hold_is_refused(self, store: Store, bad: BoltRecord) -> None:
        with pytest.raises(QuantfleetError) as raised:
            store.commit([M8, bad])
        assert raised.value.code is ErrorCode.STORE_FAILED
        assert store.all(BoltRecord) == []

    def test_extreme_values_survive(self, store: Store) -> None:
        odd = BoltRecord("Schraube \u2116\n'; drop", "日本", -(2**63), float("inf"), photo=bytes(range(256)) * 5000)
        store.commit([odd, replace(M6, weight=5), replace(M8, note=Note.BLUE)])
        assert store.get(BoltRecord, "日本", -(2**63)) == odd
        assert type(store.all(BoltRecord)[0].weight) is float
        assert type(store.all(BoltRecord)[1].note) is str

    def test_closing_twice_is_no_error(self, store: Store) -> None:
        store.close()
        store.close()
