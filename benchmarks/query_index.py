"""Time what an index is asked, at two sizes side by side: an answer should not slow down as the archive grows.

Both indexes are filled by ``benchmarks.fill_index``; the instances added here stay in them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import matching_of
from backup_scp.dicom.query.information_model import Condition, Query
from backup_scp.index.connection.database import Database
from backup_scp.index.reading import select
from backup_scp.index.sql_index import SQLIndex
from benchmarks import synthetic

SHOWN = (
    *("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
    *("ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
)
ROUNDS = 6
"""The two sizes take turns, so that what else the machine does meets both."""

ADDED = 9_000
SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of query: ``keys`` makes the keys from the values of a study that is held."""

    name: str
    keys: Callable[[dict[str, str]], dict[str, str]]
    at_most: int = 1_000_000


CASES = (
    Case("Patient ID", lambda held: {"PatientID": held["PatientID"]}),
    Case("Accession Number", lambda held: {"AccessionNumber": held["AccessionNumber"]}),
    Case("Patient's Birth Date", lambda held: {"PatientBirthDate": held["PatientBirthDate"]}),
    Case("Study Instance UID", lambda held: {"StudyInstanceUID": held["StudyInstanceUID"]}),
    Case("name prefix", lambda held: {"PatientName": f"{held['PatientName'].split('=')[0]}*"}),
    Case("rare infix name", lambda held: {"PatientName": f"*{held['PatientName'].split('=')[0][2:]}*"}),
    Case("*SMITH*", lambda _: {"PatientName": "*SMITH*"}, at_most=10),
    Case("a month of dates", lambda held: {"StudyDate": f"{held['StudyDate'][:6]}01-{held['StudyDate'][:6]}31"}, 10),
    Case("a day, one modality", lambda held: {"StudyDate": held["StudyDate"], "ModalitiesInStudy": "DX"}),
)


def query(keys: dict[str, str], level: Level = Level.STUDY) -> Query:
    """Make a query as an Identifier would."""
    conditions = [(BY_KEYWORD[keyword], matching_of(value, BY_KEYWORD[keyword].vr)) for keyword, value in keys.items()]
    narrowing = tuple(Condition(attribute, matching) for attribute, matching in conditions if matching)
    return Query(level, narrowing, tuple(BY_KEYWORD[keyword] for keyword in SHOWN))


def held_studies(studies: int) -> Iterator[dict[str, str]]:
    """Draw studies that a filled index holds, none in another script."""
    chance = random.Random(studies)
    while True:
        (version, *_) = synthetic.study(chance.randrange(studies))
        if (name := version.instance.attributes["PatientName"]).isascii() and "=" not in name:
            yield {**version.instance.attributes, "StudyInstanceUID": version.instance.study_instance_uid}


class Bench:
    """One filled index."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.index = SQLIndex(url)
        self.studies = self.index.holdings().studies
        self.held = held_studies(self.studies)

    def ask(self, case: Case, seconds: float) -> list[tuple[float, int]]:
        """Ask for so long; give the milliseconds and the number of answers of each query."""
        asked, began = [], time.perf_counter()
        for held in itertools.islice(self.held, case.at_most):
            question = query(case.keys(held))
            start = time.perf_counter()
            answers = sum(1 for _ in self.index.search(question))
            asked.append(((time.perf_counter() - start) * 1000, answers))
            if time.perf_counter() - began > seconds:
                break
        return asked

    def add(self) -> float:
        """Give instances added a second, to studies not held before."""
        first = 100_000_000 + self.index.holdings().studies
        studies = ADDED // synthetic.INSTANCES // ROUNDS
        new = [version for number in range(studies) for version in synthetic.study(first + number)]
        began = time.perf_counter()
        for version in new:
            self.index.add(version)
        return len(new) / (time.perf_counter() - began)

    def explain(self, case: Case) -> list[str]:
        """Give the database's plan of a query."""
        asked = query(case.keys(next(held_studies(self.studies))))
        return plan(self.url, asked)


def plan(url: str, asked: Query) -> list[str]:
    """Give the plan that the database has for a query, one line a step."""
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        compiled = select.search(asked, database.dialect).compile(
            connection.engine, compile_kwargs={"render_postcompile": True}
        )
        verb = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        values = compiled.params if compiled.positiontup is None else [compiled.params[n] for n in compiled.positiontup]
        rows = connection.exec_driver_sql(verb + str(compiled), _driver_values(values))
        return [str(row[-1]) for row in rows]


def _driver_values(values: object) -> tuple[object, ...] | dict[str, object]:
    return dict(values) if isinstance(values, dict) else tuple(values)  # type: ignore[arg-type]


def stream(url: str) -> None:
    """Run in a process of its own: a universal query, answers a second and the memory that it took."""
    with contextlib.closing(SQLIndex(url)) as index:
        next(found := index.search(query({})))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        count = sum(1 for _ in found)
        rate = count / (time.perf_counter() - began)
    print(rate, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def streamed(url: str) -> tuple[float, float]:
    """Give answers a second of a universal query, and by how many MiB the peak of memory rose after the first."""
    command = [sys.executable, "-m", "benchmarks.query_index", "--stream", url]
    rate, grown = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()  # noqa: S603
    return float(rate), float(grown)


def report(small: Bench, large: Bench) -> None:
    """Print the table."""
    print(f"{'':24}{small.studies:>12,} studies{large.studies:>12,} studies   ratio         answers")
    for case in CASES:
        asked: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
        for _ in range(ROUNDS):
            for bench, done in zip((small, large), asked, strict=True):
                done.extend(bench.ask(case, SECONDS / ROUNDS))
        few_ms, many_ms = (statistics.median(ms for ms, _ in done) for done in asked)
        few, many = (statistics.mean(answers for _, answers in done) for done in asked)
        print(f"{case.name:24}{few_ms:>17.3f} ms{many_ms:>17.3f} ms{many_ms / few_ms:>8.2f}{few:>8,.0f}{many:>8,.0f}")
    (few, few_mib), (many, many_mib) = streamed(small.url), streamed(large.url)
    print(f"{'universal query':24}{few:>18,.0f}/s{many:>18,.0f}/s{few / many:>8.2f}")
    print(f"{'  memory it took more':24}{few_mib:>16.1f} MiB{many_mib:>16.1f} MiB")
    added = [(small.add(), large.add()) for _ in range(ROUNDS)]
    few, many = (statistics.median(rates) for rates in zip(*added, strict=True))
    print(f"{'instances added':24}{few:>18,.0f}/s{many:>18,.0f}/s{few / many:>8.2f}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", metavar="url", help="the smaller index, then the larger one")
    parser.add_argument("--explain", action="store_true", help="print the plans of the queries instead")
    parser.add_argument("--stream", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stream:
        stream(arguments.urls[0])
        return
    with contextlib.ExitStack() as stack:
        benches = [Bench(url) for url in arguments.urls]
        for bench in benches:
            stack.callback(bench.index.close)
        if arguments.explain:
            for case in (*CASES, Case("universal query", lambda _: {})):
                print(case.name, *benches[-1].explain(case), sep="\n    ")
        else:
            report(benches[0], benches[-1])


if __name__ == "__main__":
    main()
