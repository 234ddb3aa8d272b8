"""A destination in memory, and a clock that advances when code sleeps."""

from __future__ import annotations

from backup_scp.ports import do_nothing


class Shelf:
    """A destination in memory; ``answers`` has its answer for a SOP Instance UID."""

    name = "shelf"
    implementation = "shelf 1"

    def __init__(self, **answers) -> None:
        self.answers = answers.get("answers", {})
        self.after = answers.get("after")
        self.received: dict[str, bytes] = {}
        self.prepared: list = []
        self.expected: list = []
        self.is_open = False
        self.disconnected = 0

    def __enter__(self):
        self.is_open = True
        return self

    def __exit__(self, *exc):
        self.is_open = False

    def expect(self, held):
        self.expected.append(held)

    def disconnect(self):
        self.disconnected += 1

    def prepare(self, instances):
        if isinstance(self.answers.get("prepare"), Exception):
            raise self.answers["prepare"]
        self.prepared += instances
        return instances

    def send(self, file, held, meanwhile=do_nothing):
        assert self.is_open
        answer = self.answers.get(held.sop_instance_uid)
        if callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        with file.data_set() as stream:
            self.received[held.sop_instance_uid] = stream.read()
        meanwhile()
        return answer


class Clock:
    """Time that passes when someone sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
