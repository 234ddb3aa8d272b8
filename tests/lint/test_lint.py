"""The rules of rules.toml work in a checkout, a shallow clone and a source tree without git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from backup_scp import __version__
from tests.lint.__main__ import ROOT, main, read_rules
from tests.lint.subjects import UncheckedError, problems, subjects
from tests.lint.wording import Use, Word, uses

RULE, WORDS = read_rules()
GOOD = "index: lock the study table before the lookup"


@pytest.mark.parametrize(
    "subject",
    [
        GOOD,
        "network, index: wait for a turn without a lock of one's own",
        "tests: bring back the contract suite",
        "docs: address what a newcomer asks",
        f"docs: {'x' * 66}",
    ],
)
def test_a_good_subject(subject):
    assert problems(subject, RULE) == []


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        (f"docs: {'x' * 67}", "73 characters"),
        ("docs: say less.", "dot"),
        ("Say less", "not `area: imperative`"),
        ("docs:say less", "not `area: imperative`"),
        ("moon: say less", "moon is no area"),
        ("docs, moon: say less", "moon is no area"),
        ("docs: added a page", "imperative"),
        ("docs: adding a page", "imperative"),
        ("docs: adds a page", "imperative"),
        ("docs: Add a page", "imperative"),
        ("docs: the page says less", "imperative"),
        ("docs: who waits hears so", "imperative"),
    ],
)
def test_a_bad_subject(subject, problem):
    (found,) = problems(subject, RULE)
    assert problem in found


def test_every_room_is_an_area():
    rooms = {path.name for path in (ROOT / "backup_scp").iterdir() if (path / "__init__.py").exists()}
    assert {room.replace("_", " ") for room in rooms} - set(RULE.areas) == set()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    argv = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def history(tmp_path):
    """Return a repository of three commits, and the hash of the first."""
    folder = tmp_path / "history"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for subject in ("What was before the rule", GOOD, "Who enters waits"):
        git(folder, "commit", "--quiet", "--allow-empty", "--message", subject)
    return folder, git(folder, "rev-list", "--max-parents=0", "HEAD")


def test_only_commits_after_the_start_are_checked(history):
    folder, first = history
    assert [subject for _, subject in subjects(folder, first)] == ["Who enters waits", GOOD]


def test_a_shallow_clone_says_that_it_checks_nothing(history, tmp_path):
    folder, first = history
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{folder}", "shallow")
    with pytest.raises(UncheckedError, match="shallow"):
        list(subjects(tmp_path / "shallow", first))


def test_a_tree_without_git_says_that_it_checks_nothing(tmp_path, history):
    folder, first = history
    inside = folder / "unpacked"
    inside.mkdir()
    for tree in (tmp_path / "nowhere", inside):
        with pytest.raises(UncheckedError, match="not a git checkout"):
            list(subjects(tree, first))


def test_the_hook_checks_the_subject_that_is_being_written(tmp_path, capsys):
    message = tmp_path / "COMMIT_EDITMSG"
    message.write_text(f"{GOOD}\n\nThe body ends with a dot.\n")
    assert main(["--message", str(message)]) == 0
    message.write_text("Who enters waits\n")
    assert main(["--message", str(message)]) == 1
    assert '"Who enters waits": it is not `area: imperative`' in capsys.readouterr().out


def test_names_and_texts_are_searched(tmp_path):
    code = tmp_path / "backup_scp" / "crew"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text('"""A ship\n\nand its Crew; ``of crew``."""\n')
    (code / "pool.py").write_text(
        "class CrewOfThree:\n    def give(self): ...\n\n\nasync def hire_crew(): ...\nscrew = 'crew'  # the crew\n"
    )
    (tmp_path / "README.md").write_text("The Crew\nruns `crew`, [it](crew.md), screws.\n```\ncrew\n```\nA crew.\n")
    words = [Word("crews?", "threads", ["names", "docs", "code"]), Word("it", "that", ["names"])]
    assert list(uses(tmp_path, words)) == [
        Use("backup_scp/crew/__init__.py:1", "crew", "threads"),
        Use("backup_scp/crew/pool.py:1", "CrewOfThree", "threads"),
        Use("backup_scp/crew/pool.py:5", "hire_crew", "threads"),
        Use("backup_scp/crew/__init__.py:3", "Crew", "threads"),
        Use("backup_scp/crew/pool.py:6", "crew", "threads"),
        Use("README.md:1", "Crew", "threads"),
        Use("README.md:6", "crew", "threads"),
    ]


def test_no_replacement_is_a_word_to_avoid(tmp_path):
    for word in WORDS:
        (tmp_path / "README.md").write_text(word.use)
        assert list(uses(tmp_path, WORDS)) == [], word.use
        assert set(word.where) <= {"names", "docs", "code"}


def test_the_changelog_has_this_version():
    released = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    assert released[0] == "## [Unreleased]"
    assert released[1].startswith(f"## [{__version__}] - ")
