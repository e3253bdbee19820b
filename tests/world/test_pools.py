"""Work that may overlap."""

from collections.abc import Callable
from threading import Event, current_thread

import pytest

from reconciler.world.pool import InlinePool, ThreadPool
from reconciler.world.ports import Pool

POOLS = [InlinePool(), ThreadPool(1), ThreadPool(8)]


@pytest.mark.parametrize("pool", POOLS)
def test_results_come_in_order(pool: Pool) -> None:
    """Whoever is done first."""
    assert [0, 1, 4, 9] == list(pool.map(lambda number: number * number, range(4)))
    assert 7 == pool.submit(lambda: 7).result(10)


@pytest.mark.parametrize("pool", POOLS)
def test_an_exception_goes_through(pool: Pool) -> None:
    """To whoever asks for the result."""

    def slip(_: int) -> int:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError):
        pool.map(slip, range(3))
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: slip(0)).result(10)


@pytest.mark.parametrize("pool", POOLS)
def test_work_of_the_pool_may_map_over_the_pool(pool: Pool) -> None:
    """However few threads it has, nobody waits for a thread that waits for them."""

    def outer() -> int:
        return sum(pool.map(lambda number: number, range(10)))

    assert [45] * 5 == [future.result(10) for future in [pool.submit(outer) for _ in range(5)]]


def test_many_small_pieces() -> None:
    """They are done by a few threads: to start one takes longer than most of them."""
    threads = set(ThreadPool(4).map(lambda _: current_thread(), range(1000)))

    assert 5 >= len(threads)


def test_two_maps_share_the_threads() -> None:
    """While the work of one hangs, the other's goes on in the thread that asks for it."""
    pool, gate = ThreadPool(2), Event()
    hanging = [pool.submit(lambda: pool.map(lambda _: gate.wait(20), range(5)))]

    assert [1, 2, 3] == list(pool.map(lambda number: number + 1, range(3)))
    gate.set()
    assert [[True] * 5] == [future.result(10) for future in hanging]


def test_no_more_at_a_time_than_it_has_threads() -> None:
    """The third waits until one of two is done."""
    pool, gate, begun = ThreadPool(2), Event(), list[int]()
    both = Event()

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            begun.append(number)
            if len(begun) == 2:
                both.set()
            assert gate.wait(10)

        return run

    futures = [pool.submit(work(number)) for number in range(3)]
    assert both.wait(10)

    assert 2 == len(begun)
    gate.set()
    for future in futures:
        future.result(10)
    assert 3 == len(begun)
