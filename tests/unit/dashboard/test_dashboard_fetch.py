"""Sessions with the same key share what was fetched; others share nothing, and errors are not kept."""

import itertools
import threading

from heedloop.client import ApiError, Client
from heedloop_dashboard import fetch
from heedloop_dashboard.fetch import ask

KEYS = [f"hl_{i:012d}_" + "k" * 43 for i in range(2)]
URL = "http://127.0.0.1:9"


class Numbers:
    """A question whose answer is how often it was asked."""

    def __init__(self):
        self.num = itertools.count(1)
        self.gate = threading.Event()
        self.gate.set()
        self.error = None

    def read(self, client, **filters):
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return next(self.num)


def _ask(numbers, key, name="a"):
    def number(client, name):
        return numbers.read(client)

    return fetch._pending(Client(URL, key), ask(number, name=f"{id(numbers)}{name}"))[1]


def test_sessions_with_one_key_share_an_answer_also_while_it_is_on_its_way():
    numbers = Numbers()
    numbers.gate.clear()
    futures = [_ask(numbers, KEYS[0]) for _ in range(5)]
    numbers.gate.set()
    assert [f.result().value for f in futures] == [1] * 5
    assert _ask(numbers, KEYS[0]).result().value == 1
    assert _ask(numbers, KEYS[0], "b").result().value == 2
    assert _ask(numbers, KEYS[1]).result().value == 3


def test_errors_are_asked_again():
    numbers = Numbers()
    numbers.error = ApiError("busy", status=503)
    assert _ask(numbers, KEYS[0]).result().error is numbers.error
    numbers.error = None
    assert _ask(numbers, KEYS[0]).result().value == 1


def test_clients_are_equal_by_server_and_key():
    one, other = (Client(URL, key) for key in KEYS)
    assert one == Client(URL, KEYS[0])
    assert hash(one) == hash(Client(URL, KEYS[0]))
    assert one != other
    assert one != Client("http://127.0.0.1:8", KEYS[0])
