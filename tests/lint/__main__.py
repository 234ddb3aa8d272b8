"""Check the subjects of commits, and that no name or document uses a word that only we understood.

    python -m tests.lint                  # part of `make lint`
    python -m tests.lint --message FILE   # the subject of a commit that is being made: a commit-msg hook

rules.toml beside this file has the rules.  Exit code 1 when one is broken.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from tests.lint.subjects import SubjectRule, UncheckedError, problems, subjects
from tests.lint.wording import Word, uses

ROOT = Path(__file__).parents[2]
RULES = Path(__file__).with_name("rules.toml")


def read_rules() -> tuple[SubjectRule, list[Word]]:
    """Read rules.toml."""
    rules = tomllib.loads(RULES.read_text("utf-8"))
    return SubjectRule(**rules["commits"]), [Word(**word) for word in rules["word"]]


def main(arguments: list[str]) -> int:
    """Print the violations, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lint", description=__doc__)
    parser.add_argument("--message", type=Path, metavar="FILE", help="Check only the subject in this file.")
    message = parser.parse_args(arguments).message
    rule, words = read_rules()
    if message is not None:
        subject = message.read_text("utf-8").partition("\n")[0]
        found = [f'"{subject}": {problem}' for problem in problems(subject, rule)]
    else:
        found = _subjects(rule) + [f'{use.place}: "{use.found}": write {use.instead}' for use in uses(ROOT, words)]
    for line in found:
        print(line)
    return 1 if found else 0


def _subjects(rule: SubjectRule) -> list[str]:
    found, number = [], 0
    try:
        for commit, subject in subjects(ROOT, rule.after):
            number += 1
            found += [f'commit {commit} "{subject}": {problem}' for problem in problems(subject, rule)]
    except UncheckedError as error:
        print(f"Subjects of commits were not checked: {error}")
    else:
        print(f"Subjects of {number} commits checked")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
