"""The changes that are made to a module: cosmic-ray's operators, and one that leaves a statement out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

_COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot", "IsNot_Is")
_NAMES = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    *(f"ReplaceComparisonOperator_{name}" for name in _COMPARISONS),
)


class DeleteStatement(Operator):
    """Leaves out a statement that does something: a call, a raise, an assignment to an attribute or an item."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and _does_something(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        (passing, *_) = parso.parse("pass\n").children
        passing.get_first_leaf().prefix = node.get_first_leaf().prefix
        return passing

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _does_something(statement: Any) -> bool:
    code = statement.get_code(include_prefix=False)
    if code.startswith(("log.", "say(", "...")):  # what is only said
        return False
    if statement.type == "expr_stmt":
        return bool("." in statement.children[0].get_code() or "[" in statement.children[0].get_code())
    return statement.type in {"atom_expr", "power", "raise_stmt", "yield_expr"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    module: str
    source: str
    changed: str

    @property
    def name(self) -> str:
        """Where and what it is, in one line."""
        before, after = self.source.splitlines(), self.changed.splitlines()
        lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
        removed = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
        added = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
        number = next((i for i, (a, b) in enumerate(zip(before, after, strict=False), 1) if a != b), len(after))
        return f"{self.module}:{number}  {removed}  ->  {added}"


def mutants_of(module: str, path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a module that compiles."""
    source = path.read_text("utf-8")
    nodes = list(ast_nodes(get_ast(source)))
    operators = [get_operator(f"core/{name}")() for name in _NAMES]
    for operator in [*operators, DeleteStatement()]:
        for occurrence in range(sum(len(list(operator.mutation_positions(node))) for node in nodes)):
            changed = mutate_code(source, operator, occurrence)
            mutant = Mutant(module, source, changed or source)
            if mutant.changed != source and _compiles(mutant.changed) and "@dataclass(" not in mutant.name:
                yield mutant


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
